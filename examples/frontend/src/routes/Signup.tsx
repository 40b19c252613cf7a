import { AccountForm } from '../components/AccountForm.tsx';
import { useSession } from '../session.tsx';

export function Signup() {
  return <AccountForm title="Create your account" action="Sign up" isNew submit={useSession().signup} />;
}
