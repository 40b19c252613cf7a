import type { Server } from 'node:http';

import { type BeforeApplicationShutdown, Injectable } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { NextFunction, Request, Response } from 'express';

import { log } from './log.js';

const REQUESTS_MS = 8_000;
const PROCESS_MS = 9_500;

/**
 * Nest stops listening on SIGTERM and waits for every connection to end, and a
 * browser keeps its connection open for minutes. So while we stop, answers carry
 * `Connection: close`, idle connections are closed at once, and whatever is left
 * after the deadline is cut. A database that hangs does not keep us either.
 */
@Injectable()
export class GracefulStop implements BeforeApplicationShutdown {
  private stopping = false;

  constructor(private readonly adapter: HttpAdapterHost) {}

  readonly middleware = (_req: Request, res: Response, next: NextFunction): void => {
    if (this.stopping) res.set('Connection', 'close');
    next();
  };

  beforeApplicationShutdown(signal?: string): void {
    const server: Server = this.adapter.httpAdapter.getHttpServer();
    this.stopping = true;
    log.info('stopping', { signal });
    setInterval(() => server.closeIdleConnections(), 100).unref();
    setTimeout(() => {
      log.warn('requests still run and are cut off', { afterMs: REQUESTS_MS });
      server.closeAllConnections();
    }, REQUESTS_MS).unref();
    setTimeout(() => {
      log.error('the process does not end by itself', { afterMs: PROCESS_MS });
      process.exit(1);
    }, PROCESS_MS).unref();
  }
}
