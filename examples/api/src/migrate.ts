/**
 * Brings the schema up to date, once: `node dist/migrate.js`. With `--list` it
 * changes nothing. Either way the last line says which migrations there are.
 *
 * The lock and the migrations share one connection: whoever loses it loses the
 * lock with it, so two runs never change the schema at the same time.
 */
import 'reflect-metadata';

import { parseArgs } from 'node:util';

import { DataSource, MigrationExecutor, type QueryRunner } from 'typeorm';

import { describeError, log } from './common/log.js';
import { ConfigurationError, readDatabaseConfig } from './config.js';
import { listMigrations } from './database/listing.js';
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

async function migrate(executor: MigrationExecutor): Promise<void> {
  executor.transaction = 'each';
  const pending = (await executor.getPendingMigrations()).map(({ name }) => name);
  log.info('migrations to apply', { pending });
  const applied = (await executor.executePendingMigrations()).map(({ name }) => name);
  log.info('migrated', { applied });
}

async function main(): Promise<void> {
  // A mistyped option must not change the schema.
  const { list } = parseArgs({ options: { list: { type: 'boolean', default: false } } }).values;
  const config = { ...readDatabaseConfig(), poolSize: 1 };
  const dataSource = await new DataSource(dataSourceOptions(config)).initialize();
  try {
    const runner = dataSource.createQueryRunner();
    const executor = new MigrationExecutor(dataSource, runner);
    if (!list) await withLock(runner, `migrate ${config.name}`.slice(0, 64), () => migrate(executor));
    const migrations = listMigrations(dataSource.migrations, await executor.getExecutedMigrations());
    await runner.release();
    process.stdout.write(`${JSON.stringify({ migrations })}\n`);
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
