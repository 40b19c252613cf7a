/** This process answers. The API has a check of its own: when it is away, restarting us helps nobody. */
export function GET(): Response {
  return Response.json({ status: 'ok' }, { headers: { 'Cache-Control': 'no-store' } });
}

export const dynamic = 'force-dynamic';
