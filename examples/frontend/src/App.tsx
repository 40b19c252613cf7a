import { lazy, Suspense } from 'react';
import { BrowserRouter, Route, Routes } from 'react-router';

import { ErrorBoundary } from './components/ErrorBoundary.tsx';
import { Layout } from './components/Layout.tsx';
import { LoggedIn } from './components/LoggedIn.tsx';
import { Home } from './routes/Home.tsx';
import { Login } from './routes/Login.tsx';
import { NotFound } from './routes/NotFound.tsx';
import { Pages } from './routes/Pages.tsx';
import { Signup } from './routes/Signup.tsx';
import { SessionProvider } from './session.tsx';

// Y.js is loaded by those who write.
const Editor = lazy(() => import('./routes/Editor.tsx'));

export function App() {
  return (
    <SessionProvider>
      <BrowserRouter>
        <Layout>
          <ErrorBoundary>
            <Suspense fallback={<p role="status">Loading…</p>}>
              <Routes>
                <Route path="/" element={<Home />} />
                <Route path="/login" element={<Login />} />
                <Route path="/signup" element={<Signup />} />
                <Route element={<LoggedIn />}>
                  <Route path="/pages" element={<Pages />} />
                  <Route path="/pages/:slug/edit" element={<Editor />} />
                </Route>
                <Route path="*" element={<NotFound />} />
              </Routes>
            </Suspense>
          </ErrorBoundary>
        </Layout>
      </BrowserRouter>
    </SessionProvider>
  );
}
