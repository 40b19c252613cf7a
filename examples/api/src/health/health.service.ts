import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

import { describeError, log } from '../common/log.js';
import { DatabaseConnector } from '../database/database.module.js';

const DEADLINE_MS = 1_500;

/** Asks the database a question that costs nothing, and does not wait for the answer for long. */
@Injectable()
export class HealthService {
  private asking: Promise<string | undefined> | undefined;
  private lastReason: string | undefined;

  constructor(
    private readonly dataSource: DataSource,
    private readonly connector: DatabaseConnector,
  ) {}

  /**
   * Why the database does not answer, or undefined when it does. The text is
   * public, so it names the kind of failure and no address; the log has the rest.
   */
  databaseFailure(): Promise<string | undefined> {
    // Checks that overlap share one question: a stuck pool is not made worse.
    this.asking ??= this.ask().finally(() => (this.asking = undefined));
    let timer: NodeJS.Timeout;
    const deadline = new Promise<string>((resolve) => {
      timer = setTimeout(() => resolve(`the database did not answer within ${DEADLINE_MS} ms`), DEADLINE_MS);
    });
    return Promise.race([this.asking, deadline]).finally(() => clearTimeout(timer));
  }

  private async ask(): Promise<string | undefined> {
    try {
      if (!this.dataSource.isInitialized) throw this.connector.failure ?? new Error('not connected yet');
      await this.dataSource.query('SELECT 1');
      this.lastReason = undefined;
      return undefined;
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      const reason = code === undefined ? message : `the database refused: ${code}`;
      if (reason !== this.lastReason) log.error('the health check failed', describeError(error));
      this.lastReason = reason;
      return reason;
    }
  }
}
