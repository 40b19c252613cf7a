import { type NextRequest, NextResponse } from 'next/server';

import { tenantOf } from './lib/tenant.ts';

/**
 * Leads each host to its page, and gives that a policy of its own: only scripts with
 * this request's nonce run. Next puts the nonce on the scripts that it writes into the page.
 */
export function proxy(request: NextRequest): NextResponse {
  const nonce = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('base64');
  const development = process.env.NODE_ENV === 'development';
  const policy = [
    "default-src 'none'",
    `script-src 'nonce-${nonce}' 'strict-dynamic'${development ? " 'unsafe-eval'" : ''}`,
    `style-src 'self'${development ? " 'unsafe-inline'" : ''}`,
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  const headers = new Headers(request.headers);
  headers.set('Content-Security-Policy', policy);
  const slug = tenantOf(request.headers.get('host'), process.env.BASE_DOMAIN);
  const response =
    slug && request.nextUrl.pathname === '/'
      ? NextResponse.rewrite(new URL(`/pages/${slug}`, request.url), { request: { headers } })
      : NextResponse.next({ request: { headers } });
  response.headers.set('Content-Security-Policy', policy);
  return response;
}

export const config = { matcher: ['/((?!_next/|healthz$).*)'] };
