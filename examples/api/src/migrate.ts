/**
 * Brings the schema up to date, once: `node dist/migrate.js`.
 *
 * The lock and the migrations share one connection: whoever loses it loses the
 * lock with it, so two runs never change the schema at the same time. The last
 * line names the migrations that were applied and the one the schema stands at.
 */
import 'reflect-metadata';

import { DataSource, MigrationExecutor, type QueryRunner } from 'typeorm';

import { describeError, log } from './common/log.js';
import { ConfigurationError, readDatabaseConfig } from './config.js';
import { dataSourceOptions } from './database/options.js';

const LOCK_WAIT_SECONDS = 60;

async function withLock<T>(runner: QueryRunner, name: string, work: () => Promise<T>): Promise<T> {
  const [row] = await runner.query('SELECT GET_LOCK(?, ?) AS taken', [name, LOCK_WAIT_SECONDS]);
  if (Number(row.taken) !== 1) {
    throw new Error(`the lock "${name}" is held by another migration for over ${LOCK_WAIT_SECONDS} s: wait for its end`);
  }
  try {
    return await work();
  } finally {
    await runner.query('SELECT RELEASE_LOCK(?)', [name]);
  }
}

async function migrate(runner: QueryRunner): Promise<void> {
  const executor = new MigrationExecutor(runner.dataSource, runner);
  executor.transaction = 'each';
  const pending = (await executor.getPendingMigrations()).map(({ name }) => name);
  log.info('migrations to apply', { pending });
  const applied = (await executor.executePendingMigrations()).map(({ name }) => name);
  const [newest] = (await executor.getExecutedMigrations()).sort((a, b) => b.timestamp - a.timestamp);
  log.info('migrated', { applied, schema: newest?.name ?? null });
}

async function main(): Promise<void> {
  const config = { ...readDatabaseConfig(), poolSize: 1 };
  const dataSource = await new DataSource(dataSourceOptions(config)).initialize();
  try {
    const runner = dataSource.createQueryRunner();
    await withLock(runner, `migrate ${config.name}`.slice(0, 64), () => migrate(runner));
    await runner.release();
  } finally {
    await dataSource.destroy();
  }
}

try {
  await main();
} catch (error) {
  const fields = error instanceof ConfigurationError ? { problems: error.problems } : describeError(error);
  log.error('cannot migrate', fields);
  process.exit(1);
}
