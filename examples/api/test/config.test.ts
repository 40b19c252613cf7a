import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ConfigurationError, readDatabaseConfig, readHttpConfig } from '../dist/config.js';

const database = { DATABASE_NAME: 'app', DATABASE_USER: 'app', DATABASE_PASSWORD: 'x' };
const secret = { JWT_SECRET: 'a-secret-of-more-than-32-characters-for-tests' };

function problems(read: () => unknown): string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof ConfigurationError) return error.problems;
    throw error;
  }
  return [];
}

test('defaults suit a developer, the environment wins', () => {
  assert.equal(readDatabaseConfig(database).poolSize, 10);
  assert.equal(readDatabaseConfig({ ...database, DATABASE_POOL_SIZE: '3' }).poolSize, 3);
  assert.equal(readHttpConfig(secret).keepAliveTimeout, 75_000);
  assert.equal(readHttpConfig({ ...secret, KEEP_ALIVE_TIMEOUT: '90000' }).keepAliveTimeout, 90_000);
});

test('everything that is missing is told at once, by name', () => {
  const found = problems(() => readDatabaseConfig({ DATABASE_PORT: '0' }));
  for (const name of ['DATABASE_PORT', 'DATABASE_NAME', 'DATABASE_USER', 'DATABASE_PASSWORD']) {
    assert.ok(found.some((problem) => problem.startsWith(`${name} `)), `${name} in ${found}`);
  }
});

test('a secret that is missing or short is refused and never repeated', () => {
  assert.match(problems(() => readHttpConfig({}))[0]!, /^JWT_SECRET is not set/);
  const [short] = problems(() => readHttpConfig({ JWT_SECRET: 'hunter2' }));
  assert.match(short!, /^JWT_SECRET has 7 characters/);
  assert.doesNotMatch(short!, /hunter2/);
});
