import { type FormEvent, useState } from 'react';
import { Navigate, useLocation } from 'react-router';

import { useSession } from '../session.tsx';
import { Field } from './Field.tsx';

interface Props {
  title: string;
  action: string;
  isNew: boolean;
  submit(email: string, password: string): Promise<void>;
}

/** Email and password, for logging in and for signing up. */
export function AccountForm({ title, action, isNew, submit }: Props) {
  const { token } = useSession();
  const { state } = useLocation();
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState(false);

  if (token !== null) return <Navigate to={state?.from ?? '/pages'} replace />;

  async function onSubmit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setBusy(true);
    setProblem(undefined);
    try {
      await submit(String(form.get('email')), String(form.get('password')));
    } catch (error) {
      setProblem((error as Error).message);
      setBusy(false);
    }
  }

  return (
    <section className="narrow">
      <title>{`${title} · Folio`}</title>
      <h1>{title}</h1>
      <form onSubmit={onSubmit}>
        <Field label="Email" name="email" type="email" autoComplete="email" required />
        <Field
          label="Password"
          name="password"
          type="password"
          autoComplete={isNew ? 'new-password' : 'current-password'}
          minLength={isNew ? 8 : undefined}
          hint={isNew ? 'At least 8 characters.' : undefined}
          required
        />
        {problem && (
          <p role="alert" className="problem">
            {problem}
          </p>
        )}
        <button type="submit" disabled={busy}>
          {action}
        </button>
      </form>
    </section>
  );
}
