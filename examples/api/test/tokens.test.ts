import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';

import { Tokens } from '../dist/auth/tokens.js';

const SECRET = 'a-secret-of-more-than-32-characters-for-tests';
const tokens = new Tokens(SECRET);

function forge(header: object, payload: object, secret = SECRET): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${encode(header)}.${encode(payload)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

const future = Math.floor(Date.now() / 1000) + 60;

test('an issued token names its user', async () => {
  assert.equal(await tokens.verify(await tokens.issue(42)), 42);
});

test('a token made elsewhere with the same secret is accepted', async () => {
  assert.equal(await tokens.verify(forge({ alg: 'HS256' }, { sub: '7', exp: future })), 7);
});

const refused: Record<string, string> = {
  'not a token': 'abc',
  'signed with another secret': forge({ alg: 'HS256' }, { sub: '7', exp: future }, 'another'),
  'without a signature': forge({ alg: 'none' }, { sub: '7', exp: future }).replace(/[^.]*$/, ''),
  'of another algorithm': forge({ alg: 'HS512' }, { sub: '7', exp: future }),
  expired: forge({ alg: 'HS256' }, { sub: '7', exp: 1 }),
  'without an end': forge({ alg: 'HS256' }, { sub: '7' }),
  'without a user': forge({ alg: 'HS256' }, { exp: future }),
  'of a user that is no number': forge({ alg: 'HS256' }, { sub: 'root', exp: future }),
};

for (const [what, token] of Object.entries(refused)) {
  test(`a token is refused: ${what}`, async () => {
    assert.equal(await tokens.verify(token), undefined);
  });
}

test('a token of thirteen hours ago is refused', async () => {
  const issued = await tokens.issue(1, Math.floor(Date.now() / 1000) - 13 * 3600);
  assert.equal(await tokens.verify(issued), undefined);
});
