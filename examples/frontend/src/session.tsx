import { createContext, type ReactNode, use, useCallback, useEffect, useMemo, useState } from 'react';

import { type Account, api, ApiError } from './api.ts';

const KEY = 'folio.token';

interface Session {
  token: string | null;
  /** Undefined while it is being asked for. */
  account: Account | null | undefined;
  login(email: string, password: string): Promise<void>;
  signup(email: string, password: string): Promise<void>;
  logout(): void;
}

const SessionContext = createContext<Session | null>(null);

/** Who is logged in. The token is kept in this browser, and given up when the API no longer takes it. */
export function SessionProvider({ children }: { children: ReactNode }) {
  const [token, setToken] = useState(() => localStorage.getItem(KEY));
  const [account, setAccount] = useState<Account | null>();

  const remember = useCallback((next: string | null) => {
    if (next === null) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
    setToken(next);
  }, []);

  useEffect(() => {
    if (token === null) {
      setAccount(null);
      return;
    }
    let current = true;
    setAccount(undefined);
    api
      .me(token)
      .then((me) => current && setAccount(me))
      .catch((error: unknown) => {
        if (!current) return;
        setAccount(null);
        if (error instanceof ApiError && error.status === 401) remember(null);
      });
    return () => {
      current = false;
    };
  }, [token, remember]);

  // Logging out in one tab logs out in all.
  useEffect(() => {
    const changed = (event: StorageEvent) => event.key === KEY && setToken(event.newValue);
    window.addEventListener('storage', changed);
    return () => window.removeEventListener('storage', changed);
  }, []);

  const session = useMemo<Session>(() => {
    const login = async (email: string, password: string) => remember((await api.login(email, password)).accessToken);
    const signup = async (email: string, password: string) => {
      await api.signup(email, password);
      await login(email, password);
    };
    return { token, account, login, signup, logout: () => remember(null) };
  }, [token, account, remember]);

  return <SessionContext value={session}>{children}</SessionContext>;
}

export function useSession(): Session {
  const session = use(SessionContext);
  if (!session) throw new Error('useSession is used outside of SessionProvider');
  return session;
}
