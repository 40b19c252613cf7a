import type { Instrumentation } from 'next';

import { log } from './lib/log.ts';

/** Runs once, when the server starts. */
export async function register(): Promise<void> {
  if (process.env.NEXT_RUNTIME === 'nodejs') {
    const { checkEnvironment } = await import('./lib/environment.ts');
    checkEnvironment();
  }
}

/** Runs for each request that failed. */
export const onRequestError: Instrumentation.onRequestError = (error, { method, path, headers }) => {
  const { name, message, stack, cause } = error as Error & { cause?: { code?: string } };
  log('error', 'request failed', {
    method,
    host: headers.host,
    path: path.split('?', 1)[0],
    requestId: headers['x-request-id'],
    error: name,
    reason: message,
    code: cause?.code,
    stack,
  });
};
