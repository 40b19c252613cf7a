import { AccountForm } from '../components/AccountForm.tsx';
import { useSession } from '../session.tsx';

export function Login() {
  return <AccountForm title="Welcome back" action="Log in" isNew={false} submit={useSession().login} />;
}
