export interface Config {
  /** Public address of the API, without its prefix. */
  API_URL: string;
  /** Public address of the co-editing server, ws or wss. */
  COLLAB_URL: string;
  /** Published pages are at its subdomains. */
  BASE_DOMAIN: string;
}

declare global {
  interface Window {
    __CONFIG__?: Partial<Config>;
  }
}

/** The addresses of this environment; `loadConfig` fills it before anything is shown. */
export const config = {} as Config;

/** Throws with the names of what /runtime-config.js does not say. */
export function loadConfig(): void {
  const { API_URL, COLLAB_URL, BASE_DOMAIN } = window.__CONFIG__ ?? {};
  const given = { API_URL, COLLAB_URL, BASE_DOMAIN };
  const missing = Object.keys(given).filter((name) => !given[name as keyof Config]);
  if (missing.length > 0) throw new Error(`/runtime-config.js does not set ${missing.join(', ')}.`);
  Object.assign(config, given);
}

/** Where everybody reads a published page. */
export function publicAddress(slug: string): string {
  const scheme = config.API_URL.startsWith('https:') ? 'https' : 'http';
  return `${scheme}://${slug}.${config.BASE_DOMAIN}`;
}
