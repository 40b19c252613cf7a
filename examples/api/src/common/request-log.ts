import { randomUUID } from 'node:crypto';

import type { NextFunction, Request, Response } from 'express';

import { log } from './log.js';

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/**
 * Writes one line for each request once it is answered or broken off. The path
 * goes in without its query, which may hold what is nobody's business. Health
 * checks come every few seconds and appear only when they fail.
 */
export function requestLog(req: Request, res: Response, next: NextFunction): void {
  const started = performance.now();
  const given = req.get('x-request-id');
  const requestId = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID();
  res.locals.requestId = requestId;
  res.set('X-Request-Id', requestId);

  res.once('close', () => {
    const path = req.originalUrl.split('?', 1)[0]!;
    if (path === '/api/health' && res.statusCode === 200) return;
    const aborted = !res.writableFinished;
    log[res.statusCode >= 500 ? 'error' : 'info']('request', {
      method: req.method,
      path,
      status: aborted ? 499 : res.statusCode,
      ms: Math.round((performance.now() - started) * 10) / 10,
      requestId,
    });
  });
  next();
}
