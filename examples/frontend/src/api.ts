import { config } from './config.ts';

const DEADLINE_MS = 15_000;

export interface Account {
  id: number;
  email: string;
}

export interface PageSummary {
  slug: string;
  title: string;
  updatedAt: string;
}

export interface Page extends PageSummary {
  body: string;
}

/** The API refused, or cannot be reached (status 0). The message is meant for people. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

interface Options {
  json?: unknown;
  token?: string | null;
}

async function call<T>(method: string, path: string, { json, token }: Options = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`${config.API_URL}/api${path}`, {
      method,
      headers: {
        ...(json === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
      },
      body: json === undefined ? undefined : JSON.stringify(json),
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch {
    throw new ApiError(0, 'The server cannot be reached. Check your connection and try again.');
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new ApiError(response.status, explain(body.message) ?? `The server answered ${response.status}.`);
  }
  return body;
}

/** `["email: This is not an email address"]` → `This is not an email address.` */
function explain(message: unknown): string | undefined {
  const sentences = [message].flat().filter((part) => typeof part === 'string');
  return sentences.map((part) => part.replace(/^\w+: /, '').replace(/[^.!?]$/, '$&.')).join(' ') || undefined;
}

export const api = {
  signup: (email: string, password: string) => call<Account>('POST', '/auth/signup', { json: { email, password } }),
  login: (email: string, password: string) =>
    call<{ accessToken: string }>('POST', '/auth/login', { json: { email, password } }),
  me: (token: string) => call<Account>('GET', '/auth/me', { token }),
  pages: (token: string) => call<PageSummary[]>('GET', '/pages', { token }),
  page: (slug: string) => call<Page>('GET', `/pages/${slug}`),
  publish: (token: string, slug: string, page: { title: string; body: string }) =>
    call<Page>('PUT', `/pages/${slug}`, { json: page, token }),
};
