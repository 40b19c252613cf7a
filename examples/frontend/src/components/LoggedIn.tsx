import { Navigate, Outlet, useLocation } from 'react-router';

import { useSession } from '../session.tsx';

/** What is inside needs a login first, and comes back here afterwards. */
export function LoggedIn() {
  const { token } = useSession();
  const { pathname } = useLocation();
  return token === null ? <Navigate to="/login" replace state={{ from: pathname }} /> : <Outlet />;
}
