/** The whole service against a real database: set DATABASE_HOST, _PORT, _NAME, _USER and _PASSWORD to run it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const skip = process.env.DATABASE_NAME ? false : 'needs a database: set DATABASE_NAME and the like';

describe('the api', { skip }, () => {
  let base: string;
  let close: () => Promise<void>;
  const person = (name: string) => ({ email: `${name}-${randomUUID()}@example.com`, password: 'correct horse' });
  const [ada, bob] = [person('ada'), person('bob')];
  const slug = `page-${randomUUID()}`;

  async function call(method: string, path: string, { json, token }: { json?: unknown; token?: string } = {}) {
    const response = await fetch(base + path, {
      method,
      body: json === undefined ? undefined : JSON.stringify(json),
      headers: { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) },
    });
    return { status: response.status, body: await response.json() };
  }

  const login = async (who: object) => (await call('POST', '/auth/login', { json: who })).body.accessToken;

  const migrate = async (...options: string[]) => {
    const { stdout } = await promisify(execFile)(process.execPath, ['dist/migrate.js', ...options]);
    return JSON.parse(stdout.trimEnd().split('\n').at(-1)!).migrations;
  };

  before(async () => {
    await migrate();
    const { readDatabaseConfig, readHttpConfig } = await import('../dist/config.js');
    const { startServer } = await import('../dist/server.js');
    const jwt = { JWT_SECRET: 'a-secret-of-more-than-32-characters-for-tests', PORT: '0' };
    const app = await startServer(readHttpConfig({ ...process.env, ...jwt }), readDatabaseConfig());
    base = `${await app.getUrl()}/api`;
    close = () => app.close();
    for (let i = 0; i < 50 && (await call('GET', '/health')).status !== 200; i++) await sleep(100);
  });
  after(() => close?.());

  test('a user signs up, logs in and is known', async () => {
    const signup = await call('POST', '/auth/signup', { json: ada });
    assert.equal(signup.status, 201);
    assert.equal(signup.body.email, ada.email);
    assert.equal((await call('POST', '/auth/signup', { json: ada })).status, 409);
    assert.equal((await call('POST', '/auth/login', { json: { ...ada, password: 'wrong' } })).status, 401);
    assert.equal((await call('POST', '/auth/login', { json: bob })).status, 401);
    const me = await call('GET', '/auth/me', { token: await login({ ...ada, email: ada.email.toUpperCase() }) });
    assert.deepEqual(me, { status: 200, body: signup.body });
    assert.equal((await call('GET', '/auth/me')).status, 401);
  });

  test('bad input is refused with the reason', async () => {
    const { status, body } = await call('POST', '/auth/signup', { json: { email: 'nope', password: 'short' } });
    assert.equal(status, 400);
    assert.equal(body.message.length, 2);
    assert.equal((await call('POST', '/auth/signup')).status, 400);
  });

  test("a page is its owner's to change and everybody's to read", async () => {
    await call('POST', '/auth/signup', { json: bob });
    const [hers, his] = [await login(ada), await login(bob)];
    const page = { title: 'Title', body: 'Body 🎉' };
    assert.equal((await call('GET', `/pages/${slug}`)).status, 404);
    assert.equal((await call('PUT', `/pages/${slug}`, { json: page })).status, 401);
    assert.equal((await call('PUT', `/pages/${slug}`, { json: page, token: hers })).status, 200);
    assert.equal((await call('PUT', `/pages/${slug}`, { json: page, token: hers })).status, 200);
    assert.equal((await call('PUT', `/pages/${slug}`, { json: page, token: his })).status, 403);
    assert.equal((await call('PUT', '/pages/Not_A_Name', { json: page, token: hers })).status, 400);
    const read = await call('GET', `/pages/${slug}`);
    assert.equal(read.body.body, page.body);
    assert.equal('ownerId' in read.body, false);
    assert.deepEqual((await call('GET', '/pages', { token: hers })).body.map((p: { slug: string }) => p.slug), [slug]);
    assert.deepEqual((await call('GET', '/pages', { token: his })).body, []);
  });

  test('migrations are listed, and listing them changes nothing', async () => {
    const { readDatabaseConfig } = await import('../dist/config.js');
    const { dataSourceOptions } = await import('../dist/database/options.js');
    const { DataSource } = await import('typeorm');
    const database = await new DataSource(dataSourceOptions(readDatabaseConfig())).initialize();
    const create = { name: 'CreateUsersAndPages1760000000000', applied: true, contract: false, known: true };
    const foreign = { name: 'FromTheFuture4000000000000', applied: true, contract: false, known: false };
    const { name } = foreign;
    try {
      await database.query('INSERT INTO migrations (timestamp, name) VALUES (4000000000000, ?)', [name]);
      assert.deepEqual(await migrate('--list'), [create, foreign]);
      assert.deepEqual(await migrate(), [create, foreign], 'the same after a run');
      await database.query('RENAME TABLE migrations TO put_aside');
      try {
        assert.deepEqual(await migrate('--list'), [{ ...create, applied: false }]);
        assert.deepEqual(await database.query("SHOW TABLES LIKE 'migrations'"), []);
        await assert.rejects(migrate('--lsit'), ({ code, stdout }) => code === 1 && /Unknown option/.test(stdout));
        assert.deepEqual(await database.query("SHOW TABLES LIKE 'migrations'"), []);
      } finally {
        await database.query('RENAME TABLE put_aside TO migrations');
      }
    } finally {
      await database.query('DELETE FROM migrations WHERE name = ?', [name]);
      await database.destroy();
    }
  });

  test('ten saves of one new page at once leave one page', async () => {
    const token = await login(ada);
    const json = { title: 'T', body: 'B' };
    const path = `/pages/x${slug}`;
    const saves = await Promise.all(Array.from({ length: 10 }, () => call('PUT', path, { json, token })));
    assert.deepEqual(new Set(saves.map((save) => save.status)), new Set([200]));
  });
});
