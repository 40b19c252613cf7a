import { NextResponse } from 'next/server';

// /portal/acme is the page of the tenant acme.
export function middleware(request) {
  const url = request.nextUrl.clone();
  const [, tenant, ...rest] = url.pathname.split('/');
  url.pathname = `/tenants/${[tenant, ...rest].join('/')}`;
  return NextResponse.rewrite(url, { headers: { 'X-Tenant': tenant } });
}

export const config = { matcher: ['/((?!_next|api|tenants|favicon|logo)[^/]+.*)'] };
