import 'reflect-metadata';

import type { Server } from 'node:http';

import { StandardSchemaValidationPipe } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';

import { AppModule } from './app.module.js';
import { ErrorsFilter } from './common/errors.filter.js';
import { GracefulStop } from './common/graceful-stop.js';
import { log, NestLogger } from './common/log.js';
import { requestLog } from './common/request-log.js';
import type { DatabaseConfig, HttpConfig } from './config.js';

export async function startServer(http: HttpConfig, database: DatabaseConfig): Promise<NestExpressApplication> {
  const app = await NestFactory.create<NestExpressApplication>(AppModule.forRoot(http, database), {
    logger: new NestLogger(),
    // Otherwise Nest ends the process before the cause can be logged as a line of JSON.
    abortOnError: false,
  });
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(requestLog, app.get(GracefulStop).middleware);
  app.useBodyParser('json', { limit: '1mb' });
  app.setGlobalPrefix('api');
  app.useGlobalPipes(new StandardSchemaValidationPipe());
  app.useGlobalFilters(new ErrorsFilter());
  app.enableShutdownHooks(['SIGTERM', 'SIGINT'], { useProcessExit: true });

  const server: Server = app.getHttpServer();
  server.keepAliveTimeout = http.keepAliveTimeout;
  server.headersTimeout = http.keepAliveTimeout + 5_000;
  await app.listen(http.port, http.host);
  log.info('listening', { address: await app.getUrl(), ms: Math.round(performance.now()) });
  return app;
}
