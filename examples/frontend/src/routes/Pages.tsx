import { type FormEvent, useEffect, useState } from 'react';
import { Link, useNavigate } from 'react-router';

import { api, type PageSummary } from '../api.ts';
import { Field } from '../components/Field.tsx';
import { publicAddress } from '../config.ts';
import { useSession } from '../session.tsx';
import { toSlug } from '../slug.ts';

export function Pages() {
  const { token } = useSession();
  const navigate = useNavigate();
  const [pages, setPages] = useState<PageSummary[]>();
  const [problem, setProblem] = useState<string>();

  useEffect(() => {
    let current = true;
    api
      .pages(token!)
      .then((list) => current && setPages(list))
      .catch((error: Error) => current && setProblem(error.message));
    return () => {
      current = false;
    };
  }, [token]);

  function open(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const slug = toSlug(String(new FormData(event.currentTarget).get('name')));
    if (slug) void navigate(`/pages/${slug}/edit`);
    else setProblem('Give the page a name with letters a to z or digits in it.');
  }

  return (
    <section>
      <title>My pages · Folio</title>
      <h1>My pages</h1>
      <form className="inline" onSubmit={open}>
        <Field label="Page name" name="name" placeholder="my-first-page" autoComplete="off" required maxLength={63} />
        <button type="submit">Open page</button>
      </form>
      {problem && (
        <p role="alert" className="problem">
          {problem}
        </p>
      )}
      {pages?.length === 0 && <p className="hint">Nothing published yet. Give your first page a name and open it.</p>}
      {pages && pages.length > 0 && (
        <ul className="pages" aria-label="Published pages">
          {pages.map(({ slug, title, updatedAt }) => (
            <li key={slug}>
              <Link to={`/pages/${slug}/edit`}>{title}</Link>
              <a href={publicAddress(slug)}>{publicAddress(slug).replace(/^https?:\/\//, '')}</a>
              <time dateTime={updatedAt}>{new Date(updatedAt).toLocaleDateString()}</time>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
