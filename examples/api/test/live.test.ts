import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { everyWhileLive, isLive } from '../dist/common/live.js';

test('a timer works in the live slot only, and follows the switch', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'live-'));
  const [blue, green] = ['blue', 'green'].map((slot) => join(folder, `api.${slot}`)) as [string, string];
  const done: string[] = [];
  const ends = [blue, green].map((path) =>
    everyWhileLive(5, () => done.push(path), { SLOT_LIVE: path }),
  );
  writeFileSync(blue, '');
  await sleep(60);
  assert.deepEqual(new Set(done), new Set([blue]));
  renameSync(blue, green);
  done.length = 0;
  await sleep(60);
  assert.deepEqual(new Set(done), new Set([green]));
  ends.forEach((end) => end());
  done.length = 0;
  await sleep(20);
  assert.deepEqual(done, []);
});

test('where nobody says, a process is live', () => {
  assert.equal(isLive({}), true);
  assert.equal(isLive({ SLOT_LIVE: '/nonexistent' }), false);
});
