import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { Document } from '../lib/document.js';
import { DocumentLog } from '../lib/document-log.js';
import { Documents, TooManyDocuments } from '../lib/documents.js';

let directory;
let path;
let problems;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'collab-'));
  path = join(directory, 'd.log');
  problems = [];
});
afterEach(() => {
  rmSync(directory, { recursive: true });
  assert.deepEqual(problems, []);
});

/** A document as one process has it. */
async function opened() {
  const document = new Document(path, randomBytes(8), (error) => problems.push(error));
  await document.load();
  return document;
}

async function until(condition) {
  for (let i = 0; i < 300 && !condition(); i++) await sleep(10);
  assert.ok(condition(), String(condition));
}

const text = (document) => document.doc.getText('t').toString();
const type = (document, words) => document.doc.getText('t').insert(document.doc.getText('t').length, words);

test('a document outlives its process', async () => {
  const first = await opened();
  type(first, 'hello');
  await first.close();
  const second = await opened();
  assert.equal(text(second), 'hello');
  await second.close();
});

test('what is written is there without any good-bye', async () => {
  const first = await opened();
  type(first, 'hello');
  await until(() => existsSync(path) && statSync(path).size > 0);
  const second = await opened();
  assert.equal(text(second), 'hello');
  await Promise.all([first.close(), second.close()]);
});

test('a document that nobody wrote to leaves no file', async () => {
  await (await opened()).close();
  assert.equal(existsSync(path), false);
});

test('two processes see what the other writes', async () => {
  const [blue, green] = [await opened(), await opened()];
  type(blue, 'blue ');
  await blue.flush();
  await green.catchUp();
  assert.equal(text(green), 'blue ');
  type(green, 'green');
  await green.flush();
  await blue.catchUp();
  assert.equal(text(blue), 'blue green');
  await Promise.all([blue.close(), green.close()]);
});

test('an update from the file goes to the sockets, and not into the file again', async () => {
  const [blue, green] = [await opened(), await opened()];
  const heard = [];
  green.connect({ send: (message) => heard.push(message) });
  type(blue, 'x');
  await blue.flush();
  const { size } = statSync(path);
  await green.catchUp();
  await green.flush();
  assert.equal(heard.length, 1);
  assert.equal(statSync(path).size, size);
  await Promise.all([blue.close(), green.close()]);
});

test('a torn tail is passed over, and what is appended behind it counts', async () => {
  const first = await opened();
  type(first, 'kept');
  await first.flush();
  const { size } = statSync(path);
  type(first, ' torn');
  await first.close();
  truncateSync(path, statSync(path).size - 3);
  assert.ok(statSync(path).size > size);

  const second = await opened();
  assert.equal(text(second), 'kept');
  type(second, ' and more');
  await second.close();
  const third = await opened();
  assert.equal(text(third), 'kept and more');
  await third.close();
});

test('a running process reads on behind damage', async () => {
  const [blue, green] = [await opened(), await opened()];
  type(blue, 'a');
  await blue.flush();
  await green.catchUp();
  appendFileSync(path, Buffer.from('Ylr1 half a record'));
  await green.catchUp();
  type(blue, 'b');
  await blue.flush();
  await green.catchUp();
  assert.equal(text(green), 'ab');
  await Promise.all([blue.close(), green.close()]);
});

test('a long history becomes a short file with the same content', async () => {
  const document = await opened();
  const content = document.doc.getText('t');
  let largest = 0;
  for (let i = 0; i < 2000; i++) {
    content.insert(0, 'x'.repeat(100));
    content.delete(0, 100);
    if (i % 2 === 0) {
      await document.flush();
      largest = Math.max(largest, statSync(path).size);
    }
  }
  type(document, 'the end');
  await document.close();
  assert.ok(largest > 64 * 1024, `it grew to ${largest}`);
  assert.ok(statSync(path).size < 64 * 1024, `it has ${statSync(path).size} bytes`);
  assert.deepEqual(readdirSync(directory), ['d.log']);
  const again = await opened();
  assert.equal(text(again), 'the end');
  await again.close();
});

test('nothing is lost when the file is replaced under another process', async () => {
  const [blue, green] = [await opened(), await opened()];
  type(blue, 'blue ');
  await blue.flush();
  await green.catchUp();
  // A third process puts a file in its place that lacks it.
  rmSync(path);
  const other = await opened();
  type(other, 'other ');
  await other.close();
  type(green, 'green ');
  await green.close();
  await blue.catchUp();
  await blue.close();

  const after = await opened();
  for (const word of ['blue', 'green', 'other']) assert.match(text(after), new RegExp(word));
  await after.close();
});

test('what somebody appends while the file is being replaced is in the new one', async () => {
  const [blue, green] = [new DocumentLog(path, randomBytes(8)), new DocumentLog(path, randomBytes(8))];
  await blue.append(Buffer.from('old'));
  await green.load();
  await green.append(Buffer.from('late'));
  assert.deepEqual((await blue.replace(Buffer.from('new'))).map(String), ['late']);
  assert.deepEqual((await new DocumentLog(path, randomBytes(8)).load()).map(String), ['new', 'late']);
  assert.equal(await green.append(Buffer.from('into the void')), false);
  assert.equal((await green.read()).replaced, true);
});

test('of two that replace the file at once, one wins', async () => {
  const [blue, green] = [new DocumentLog(path, randomBytes(8)), new DocumentLog(path, randomBytes(8))];
  await blue.append(Buffer.from('old'));
  await green.load();
  await blue.replace(Buffer.from('blue'));
  await green.replace(Buffer.from('green'));
  assert.deepEqual((await green.read()).updates.map(String), ['blue']);
  assert.deepEqual(readdirSync(directory), ['d.log']);
});

test('three processes write while files are replaced: all see everything', async () => {
  const processes = [await opened(), await opened(), await opened()];
  const words = [];
  const inodes = new Set();
  for (let round = 0; round < 150; round++) {
    for (const [index, document] of processes.entries()) {
      const list = document.doc.getMap('words');
      list.set(`${index}-${round}`, true);
      words.push(`${index}-${round}`);
      // Bulk that is deleted at once makes every log worth rewriting.
      type(document, 'x'.repeat(20_000));
      document.doc.getText('t').delete(0, document.doc.getText('t').length);
    }
    const turns = processes.map((document, index) =>
      round % (index + 1) === 0 ? document.flush() : document.catchUp(),
    );
    await Promise.all(turns);
    if (round % 3 === 0) await sleep(25);
    inodes.add(statSync(path).ino);
  }
  assert.ok(inodes.size > 3, `the file was replaced ${inodes.size - 1} times`);
  await Promise.all(processes.map((document) => document.flush()));
  for (let i = 0; i < 5; i++) await Promise.all(processes.map((document) => document.catchUp()));
  for (const document of processes) {
    assert.equal(document.doc.getMap('words').size, words.length);
    await document.close();
  }
  const after = await opened();
  assert.deepEqual([...after.doc.getMap('words').keys()].sort(), words.sort());
  await after.close();
});

test('what cannot be written is kept and written later', async () => {
  const document = await opened();
  rmSync(directory, { recursive: true });
  type(document, 'kept');
  await until(() => document.failure?.code === 'ENOENT');
  mkdirSync(directory);
  await until(() => document.failure === undefined);
  assert.ok(problems.splice(0).length > 0);
  await document.close();
  const after = await opened();
  assert.equal(text(after), 'kept');
  await after.close();
});

test('documents beyond the limit: unused ones are put away, used ones are refused', async () => {
  const documents = new Documents(directory, 2);
  type(await documents.acquire('a'), 'a');
  await documents.acquire('b');
  await assert.rejects(documents.acquire('c'), TooManyDocuments);
  documents.release('a');
  await documents.acquire('c');
  documents.release('b');
  assert.equal(text(await documents.acquire('a')), 'a');
  await documents.close();
});

test('a document is there again while it is being put away', async () => {
  const documents = new Documents(directory, 1);
  type(await documents.acquire('a'), 'a');
  documents.release('a');
  await documents.acquire('b');
  documents.release('b');
  assert.equal(text(await documents.acquire('a')), 'a');
  await documents.close();
});

test('what a killed process left behind is swept, what a running one writes is not', async () => {
  writeFileSync(join(directory, 'new.log.0000.tmp'), '');
  writeFileSync(join(directory, 'old.log.0000.tmp'), '');
  utimesSync(join(directory, 'old.log.0000.tmp'), 0, 0);
  await new Documents(directory, 1).close();
  assert.deepEqual(readdirSync(directory), ['new.log.0000.tmp']);
});
