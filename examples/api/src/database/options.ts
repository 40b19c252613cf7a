import type { DataSourceOptions } from 'typeorm';

import { User } from '../auth/user.entity.js';
import type { DatabaseConfig } from '../config.js';
import { Page } from '../pages/page.entity.js';
import { CreateUsersAndPages1760000000000 } from './migrations/1760000000000-create-users-and-pages.js';

export function dataSourceOptions(config: DatabaseConfig): DataSourceOptions {
  return {
    type: 'mysql',
    host: config.host,
    port: config.port,
    database: config.name,
    username: config.user,
    password: config.password,
    charset: 'utf8mb4',
    timezone: 'Z',
    connectTimeout: 5_000,
    poolSize: config.poolSize,
    ...(config.ca === undefined ? {} : { ssl: { ca: config.ca, minVersion: 'TLSv1.2' } }),
    entities: [User, Page],
    migrations: [CreateUsersAndPages1760000000000],
    // The schema changes by migrations alone, which run once per deploy (see migrate.ts).
    synchronize: false,
    migrationsRun: false,
    logging: false,
    extra: {
      // A connection idle for a minute is closed by us, before the server or a
      // router on the way does so unseen. mysql2 reaps only below the limit.
      maxIdle: Math.max(1, config.poolSize - 1),
      idleTimeout: 60_000,
      gracefulEnd: true,
      enableKeepAlive: true,
      keepAliveInitialDelay: 10_000,
      // Waiting requests are bounded: past this, answering 503 at once is kinder.
      queueLimit: config.poolSize * 20,
    },
  };
}
