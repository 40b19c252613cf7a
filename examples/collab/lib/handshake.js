/**
 * Which handshakes are let in.
 *
 * A browser sends the page's Origin with every WebSocket handshake, and no other
 * rule of its own applies: a page anywhere could open a socket to us. Programs
 * that are no browsers send none, and could send any, so its absence is no fault.
 */
export function originAllowed(origin, allowed) {
  if (origin === undefined || allowed.length === 0) return true;
  return allowed.some((rule) => {
    if (!rule.includes('//*.')) return origin === rule;
    const [scheme, rest] = rule.split('//*');
    const prefix = `${scheme}//`;
    if (!origin.startsWith(prefix) || !origin.endsWith(rest)) return false;
    return /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(origin.slice(prefix.length, -rest.length));
  });
}

const ROOM = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** The document's name from the path `/<name>`, or undefined. It becomes a file's name, hence the narrow set. */
export function roomOf(url) {
  const name = url.split('?', 1)[0].slice(1);
  return ROOM.test(name) ? name : undefined;
}
