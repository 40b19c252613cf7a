import assert from 'node:assert/strict';
import { test } from 'node:test';

import { listMigrations } from '../dist/database/listing.js';

class Expand {
  async up() {}
  async down() {}
}
class CreateUsers1700000000000 extends Expand {}
class DropNames1700000000002 extends Expand {
  readonly contract = true;
}
class AddTitles1700000000001 extends Expand {
  readonly contract = false;
}
class Renamed extends Expand {
  name = 'AddIndex1700000000003';
}

const row = (name: string) => ({ name, timestamp: Number(name.slice(-13)) });
const known = [new DropNames1700000000002(), new CreateUsers1700000000000(), new AddTitles1700000000001()];

test('migrations are listed in the order of their timestamps, and say what they are', () => {
  assert.deepEqual(listMigrations(known, [row('CreateUsers1700000000000')]), [
    { name: 'CreateUsers1700000000000', applied: true, contract: false, known: true },
    { name: 'AddTitles1700000000001', applied: false, contract: false, known: true },
    { name: 'DropNames1700000000002', applied: false, contract: true, known: true },
  ]);
});

test('what only the database knows stands among the others', () => {
  const [first, foreign, ...rest] = listMigrations(
    [new CreateUsers1700000000000(), new DropNames1700000000002()],
    ['DropNames1700000000002', 'Foreign1700000000001', 'CreateUsers1700000000000'].map(row),
  );
  assert.equal(first!.name, 'CreateUsers1700000000000');
  assert.deepEqual(foreign, { name: 'Foreign1700000000001', applied: true, contract: false, known: false });
  assert.deepEqual(rest, [{ name: 'DropNames1700000000002', applied: true, contract: true, known: true }]);
});

test('a migration that states its name is listed under it, as TypeORM keeps it', () => {
  const [only] = listMigrations([new Renamed()], [row('AddIndex1700000000003')]);
  assert.deepEqual(only, { name: 'AddIndex1700000000003', applied: true, contract: false, known: true });
});

test('no migrations make an empty list', () => {
  assert.deepEqual(listMigrations([], []), []);
});
