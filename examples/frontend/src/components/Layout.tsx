import type { ReactNode } from 'react';
import { NavLink } from 'react-router';

import { useSession } from '../session.tsx';

export function Layout({ children }: { children: ReactNode }) {
  const { token, account, logout } = useSession();
  return (
    <>
      <header>
        <NavLink className="brand" to="/">
          Folio
        </NavLink>
        <nav aria-label="Main">
          {token === null ? (
            <>
              <NavLink to="/login">Log in</NavLink>
              <NavLink to="/signup">Sign up</NavLink>
            </>
          ) : (
            <>
              {account && <span className="account">{account.email}</span>}
              <NavLink to="/pages" end>
                My pages
              </NavLink>
              <button type="button" className="plain" onClick={logout}>
                Log out
              </button>
            </>
          )}
        </nav>
      </header>
      <main>{children}</main>
    </>
  );
}
