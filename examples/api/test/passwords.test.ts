import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hashPassword, verifyPassword } from '../dist/auth/passwords.js';

test('a password matches its own hash only', async () => {
  const hash = await hashPassword('correct horse');
  assert.equal(await verifyPassword('correct horse', hash), true);
  assert.equal(await verifyPassword('correct horsf', hash), false);
  assert.equal(await verifyPassword('', hash), false);
});

test('the hash is salted, tells its cost and does not hold the password', async () => {
  const [one, two] = await Promise.all([hashPassword('correct horse'), hashPassword('correct horse')]);
  assert.notEqual(one, two);
  assert.match(one, /^scrypt\$16384\$8\$5\$[\w-]{22}\$[\w-]{43}$/);
});

test('a hash of an older, cheaper cost still verifies', async () => {
  const old = 'scrypt$1024$8$1$AAAAAAAAAAAAAAAAAAAAAA$6T3EPrWlvRG_y8-HDJ-XRLH2SiAP9RFvuF7ZslX9Uhw';
  assert.equal(await verifyPassword('correct horse', old), true);
  assert.equal(await verifyPassword('wrong', old), false);
});

test('the same letters typed on another keyboard match', async () => {
  assert.equal(await verifyPassword('caf\u00e9-caf\u00e9', await hashPassword('cafe\u0301-cafe\u0301')), true);
});

test('nonsense in place of a hash matches nothing', async () => {
  for (const hash of ['', 'x', 'bcrypt$1$2$3$4$5', 'scrypt$16384$8$5$$']) {
    assert.equal(await verifyPassword('', hash), false, hash);
  }
});
