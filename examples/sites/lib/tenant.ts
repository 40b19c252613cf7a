const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * The page that a host name stands for: `recipes` for `recipes.example.com`, when
 * the base domain is `example.com`. Undefined for every other host, the base
 * domain itself and names below a page included. Without a base domain, the first
 * label counts.
 */
export function tenantOf(host: string | null, baseDomain: string | undefined): string | undefined {
  const name = (host ?? '').toLowerCase().replace(/:\d+$/, '');
  const dot = name.indexOf('.');
  const end = baseDomain ? `.${baseDomain.toLowerCase()}` : name.slice(dot);
  if (dot === -1 || !name.endsWith(end)) return undefined;
  const label = name.slice(0, -end.length);
  return LABEL.test(label) ? label : undefined;
}
