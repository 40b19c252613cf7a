import { headers } from 'next/headers';
import { cache } from 'react';

import { tenantOf } from './tenant.ts';

const DEADLINE_MS = 5_000;

export interface Page {
  slug: string;
  title: string;
  body: string;
  updatedAt: string;
}

async function fetchPage(slug: string, requestId: string | null): Promise<Page | undefined> {
  const response = await fetch(`${process.env.API_INTERNAL_URL}/api/pages/${slug}`, {
    // Each request asks again: a stored answer could be old, or somebody else's.
    cache: 'no-store',
    headers: requestId ? { 'X-Request-Id': requestId } : {},
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  if (response.status === 404) return undefined;
  if (!response.ok) throw new Error(`the API answered ${response.status} for the page ${slug}`);
  return response.json();
}

/** A page by its name, at its own host only. React's cache lives as long as one request. */
export const publishedPage = cache(async (slug: string): Promise<Page | undefined> => {
  const given = await headers();
  if (slug !== tenantOf(given.get('host'), process.env.BASE_DOMAIN)) return undefined;
  return fetchPage(slug, given.get('x-request-id'));
});
