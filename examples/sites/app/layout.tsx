import './style.css';

import { connection } from 'next/server';
import type { ReactNode } from 'react';

export default async function Layout({ children }: { children: ReactNode }) {
  // Nothing is rendered ahead of a request: the scripts in it would lack the request's nonce.
  await connection();
  return (
    <html lang="en">
      <body>
        <main>{children}</main>
      </body>
    </html>
  );
}
