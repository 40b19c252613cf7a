import { setTimeout as sleep } from 'node:timers/promises';

import {
  type DynamicModule,
  Injectable,
  Module,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
} from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';

import { describeError, log } from '../common/log.js';
import type { DatabaseConfig } from '../config.js';
import { dataSourceOptions } from './options.js';

const RETRY_MS = 1_000;

/**
 * Connects in the background and keeps trying. The process listens at once and
 * says through its health check that the database is missing, where it would
 * otherwise die and be restarted until the database is back.
 */
@Injectable()
export class DatabaseConnector implements OnApplicationBootstrap, OnApplicationShutdown {
  private stopping = false;
  /** Why the last attempt failed; undefined once connected. */
  failure: unknown;

  constructor(private readonly dataSource: DataSource) {}

  onApplicationBootstrap(): void {
    void this.connect();
  }

  onApplicationShutdown(): void {
    this.stopping = true;
  }

  private async connect(): Promise<void> {
    let lastReason: string | undefined;
    while (!this.stopping && !this.dataSource.isInitialized) {
      try {
        await this.dataSource.initialize();
        this.failure = undefined;
        log.info('connected to the database');
      } catch (error) {
        this.failure = error;
        const reason = String(error);
        if (reason !== lastReason) log.error('cannot connect to the database', describeError(error));
        lastReason = reason;
        await sleep(RETRY_MS, undefined, { ref: false });
      }
    }
  }
}

@Module({})
export class DatabaseModule {
  static forRoot(config: DatabaseConfig): DynamicModule {
    return {
      module: DatabaseModule,
      global: true,
      imports: [TypeOrmModule.forRoot({ ...dataSourceOptions(config), manualInitialization: true })],
      providers: [DatabaseConnector],
      exports: [DatabaseConnector],
    };
  }
}
