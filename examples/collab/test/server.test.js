/** The server as a process of its own, with the client that browsers use. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import WebSocket from 'ws';
import { WebsocketProvider } from 'y-websocket';
import * as Y from 'yjs';

let directory;
let cleanups;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'collab-'));
  cleanups = [];
});
afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  rmSync(directory, { recursive: true });
});

/** Starts a server and waits until it listens. */
async function server(environment = {}) {
  const child = spawn(process.execPath, ['server.js'], {
    env: { ...process.env, PORT: '0', STATE_DIRECTORY: directory, ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const lines = [];
  const port = await new Promise((resolve) => {
    createInterface(child.stdout).on('line', (line) => {
      lines.push(JSON.parse(line));
      if (lines.at(-1).message === 'listening') resolve(lines.at(-1).port);
    });
  });
  const stop = async (signal = 'SIGTERM') => {
    child.kill(signal);
    const [code] = await exited;
    return code;
  };
  cleanups.push(() => stop('SIGKILL'));
  return { port, lines, stop };
}

/** A page with the document open. */
async function editor(port, room = 'room') {
  const doc = new Y.Doc();
  const provider = new WebsocketProvider(`ws://127.0.0.1:${port}`, room, doc, {
    WebSocketPolyfill: WebSocket,
    disableBc: true,
  });
  const codes = [];
  provider.on('connection-close', (event) => codes.push(event?.code));
  cleanups.push(() => provider.destroy());
  if (!provider.synced) await new Promise((resolve) => provider.once('sync', resolve));
  return { text: doc.getText('t'), provider, codes, leave: () => provider.destroy() };
}

async function until(condition, timeout = 5_000) {
  const end = performance.now() + timeout;
  while (!condition() && performance.now() < end) await sleep(5);
  assert.ok(condition(), String(condition));
}

/** The status of a refused handshake, or 101. */
async function handshake(port, path, headers = {}) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers });
  const status = await new Promise((resolve) => {
    socket.on('open', () => resolve(101));
    socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
    socket.on('error', () => {});
  });
  socket.terminate();
  return status;
}

test('two people edit together and a third joins late', async () => {
  const { port } = await server();
  const [ada, bob] = [await editor(port), await editor(port)];
  ada.text.insert(0, 'hello ');
  await until(() => bob.text.toString() === 'hello ');
  bob.text.insert(6, 'world');
  await until(() => ada.text.toString() === 'hello world');
  const late = await editor(port);
  assert.equal(late.text.toString(), 'hello world');
  const elsewhere = await editor(port, 'another-room');
  assert.equal(elsewhere.text.toString(), '');
});

test('people see who else is there, and when they leave', async () => {
  const { port } = await server();
  const [ada, bob] = [await editor(port), await editor(port)];
  ada.provider.awareness.setLocalStateField('user', { name: 'Ada' });
  const { awareness } = bob.provider;
  await until(() => [...awareness.getStates().values()].some(({ user }) => user?.name === 'Ada'));
  ada.leave();
  await until(() => awareness.getStates().size === 1);
});

test('people see each other again at once after a restart', async () => {
  const first = await server();
  const people = await Promise.all(['a', 'b', 'c'].map(() => editor(first.port)));
  const all = () => people.every(({ provider }) => provider.awareness.getStates().size === 3);
  people.forEach(({ provider }, index) => provider.awareness.setLocalStateField('user', index));
  await until(all);
  await first.stop();
  await until(() => !all());
  await server({ PORT: String(first.port) });
  await until(() => people.every(({ provider }) => provider.synced));
  await until(all, 2_000);
});

test('health says what the server does', async () => {
  const { port } = await server();
  await editor(port);
  const response = await fetch(`http://127.0.0.1:${port}/health`);
  assert.equal(response.status, 200);
  const { status, documents, connections } = await response.json();
  assert.deepEqual({ status, documents, connections }, { status: 'ok', documents: 1, connections: 1 });
  assert.equal((await fetch(`http://127.0.0.1:${port}/other`)).status, 404);
});

test('handshakes are checked', async () => {
  const { port } = await server({ ALLOWED_ORIGINS: 'https://example.com,https://*.example.com', MAX_DOCUMENTS: '1' });
  const from = (origin) => handshake(port, '/room', { origin });
  assert.equal(await handshake(port, '/room'), 101);
  assert.equal(await from('https://example.com'), 101);
  assert.equal(await from('https://pages.example.com'), 101);
  for (const origin of ['http://example.com', 'https://example.com.evil.net', 'https://evilexample.com', 'null']) {
    assert.equal(await from(origin), 403, origin);
  }
  for (const path of ['/', '/a/b', '/..', '/.hidden', '/a%2Fb', `/${'a'.repeat(129)}`]) {
    assert.equal(await handshake(port, path), 400, path);
  }
});

test('a document too many is refused', async () => {
  const { port } = await server({ MAX_DOCUMENTS: '1' });
  await editor(port, 'one');
  assert.equal(await handshake(port, '/two'), 503);
  assert.equal(await handshake(port, '/one'), 101);
});

test('a message too large, or of nonsense, ends that connection only', async () => {
  const { port } = await server();
  const ada = await editor(port);
  for (const [data, expected] of [
    [Buffer.alloc(1024 * 1024 + 1), 1009],
    [Buffer.from([0, 2, 5, 1, 2, 3, 4, 5]), 1007],
    [Buffer.from([99]), 1007],
    ['text', 1007],
  ]) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/room`);
    await once(socket, 'open');
    socket.send(data);
    const [code] = await once(socket, 'close');
    assert.equal(code, expected);
  }
  const bob = await editor(port);
  ada.text.insert(0, 'still here');
  await until(() => bob.text.toString() === 'still here');
});

test('how large a message may be is for the environment to say', async () => {
  const { port } = await server({ MAX_MESSAGE_BYTES: '100' });
  for (const [size, expected] of [
    [100, 1007],
    [101, 1009],
  ]) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/room`);
    await once(socket, 'open');
    socket.send(Buffer.alloc(size, 99));
    const [code] = await once(socket, 'close');
    assert.equal(code, expected);
  }
});

test('SIGTERM: everything is kept, clients are sent away with 1012 and come back', async () => {
  const first = await server();
  const people = await Promise.all(['a', 'a', 'b', 'b', 'c'].map((room) => editor(first.port, room)));
  people[0].text.insert(0, 'typed just before');
  assert.equal(await first.stop(), 0);
  for (const { codes } of people) assert.equal(codes[0], 1012);
  assert.equal(first.lines.at(-1).message, 'stopped');

  const second = await server({ PORT: String(first.port) });
  await until(() => people.every(({ provider }) => provider.synced));
  const late = await editor(second.port, 'a');
  assert.equal(late.text.toString(), 'typed just before');
});

/** Raw sockets that note when they were sent away; `count` of each document. */
async function visitors(port, documents, count) {
  const sockets = [];
  for (let document = 0; document < documents; document++) {
    for (let index = 0; index < count; index++) {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/d${document}`);
      const visitor = { document, code: undefined, at: undefined };
      socket.on('close', (code) => Object.assign(visitor, { code, at: performance.now() }));
      sockets.push([socket, visitor]);
    }
  }
  await Promise.all(sockets.map(([socket]) => once(socket, 'open')));
  return sockets.map(([, visitor]) => visitor);
}

const moved = ({ lines }) => lines.find(({ message }) => message === 'sent clients away');

test('clients are sent away document after document, at a rate', async () => {
  const { port, lines, stop } = await server({ HAND_OFF_RATE: '50' });
  const people = await visitors(port, 10, 6);
  assert.equal(await stop(), 0);
  assert.ok(people.every(({ code }) => code === 1012));
  const order = people.toSorted((a, b) => a.at - b.at).map(({ document }) => document);
  const visits = order.filter((document, index) => document !== order[index - 1]);
  assert.equal(visits.length, 10, `those of one document leave together: ${order}`);
  assert.notDeepEqual(visits, visits.toSorted((a, b) => a - b));
  const { documents, connections, ms } = moved({ lines });
  assert.deepEqual({ documents, connections }, { documents: 10, connections: 60 });
  // 54 sockets leave after the first six: at 50 a second, give or take a fifth.
  assert.ok(ms > 850 && ms < 2_500, `${ms} ms`);
});

test('a large document leaves in parts', async () => {
  const { port, lines, stop } = await server({ HAND_OFF_RATE: '50' });
  const people = await visitors(port, 1, 40);
  assert.equal(await stop(), 0);
  const times = people.map(({ at }) => at).toSorted((a, b) => a - b);
  assert.ok(times[39] - times[0] > 450, `${times}`);
  assert.equal(moved({ lines }).connections, 40);
});

test('however many there are, it ends in time', async () => {
  const { port, lines, stop } = await server({ HAND_OFF_RATE: '1', HAND_OFF_TIMEOUT: '1' });
  await visitors(port, 10, 6);
  assert.equal(await stop(), 0);
  const { ms } = moved({ lines });
  assert.ok(ms > 700 && ms < 2_000, `${ms} ms`);
});

test('with nobody connected, or nobody to take over, it stops at once', async () => {
  const idle = await server({ HAND_OFF_RATE: '1' });
  let started = performance.now();
  assert.equal(await idle.stop(), 0);
  assert.ok(performance.now() - started < 1_000);

  const alone = await server({ HAND_OFF_RATE: '1', HAND_OFF_PEER_PORT: String(idle.port) });
  const people = await visitors(alone.port, 5, 2);
  started = performance.now();
  assert.equal(await alone.stop(), 0);
  assert.ok(performance.now() - started < 1_500);
  assert.ok(people.every(({ code }) => code === 1012));

  const successor = await server();
  const paced = await server({ HAND_OFF_RATE: '10', HAND_OFF_PEER_PORT: String(successor.port) });
  await visitors(paced.port, 5, 2);
  assert.equal(await paced.stop(), 0);
  assert.ok(moved(paced).ms > 500);
});

test('a process that is killed has lost nothing that it passed on a moment before', async () => {
  const first = await server();
  const [ada, bob] = [await editor(first.port), await editor(first.port)];
  ada.text.insert(0, 'passed on');
  await until(() => bob.text.toString() === 'passed on');
  await sleep(200);
  ada.leave();
  bob.leave();
  await first.stop('SIGKILL');
  const second = await server();
  assert.equal((await editor(second.port)).text.toString(), 'passed on');
});

test('an old and a new process share their documents', async () => {
  const [blue, green] = [await server(), await server()];
  const [ada, bob] = [await editor(blue.port), await editor(green.port)];
  ada.text.insert(0, 'blue');
  await until(() => bob.text.toString() === 'blue', 2_000);
  bob.text.insert(4, ' green');
  await until(() => ada.text.toString() === 'blue green', 2_000);
  ada.text.insert(0, 'last words of ');
  assert.equal(await blue.stop(), 0);
  await until(() => bob.text.toString() === 'last words of blue green', 2_000);
});

test('a wrong setting is named', async () => {
  const child = spawn(process.execPath, ['server.js'], {
    env: { ...process.env, PORT: 'x', ALLOWED_ORIGINS: 'example.com' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [[code], [output]] = await Promise.all([once(child, 'exit'), once(child.stdout, 'data')]);
  assert.equal(code, 1);
  const { problems } = JSON.parse(output);
  assert.match(problems.join(), /PORT is "x".*ALLOWED_ORIGINS contains "example.com"|ALLOWED_ORIGINS.*PORT/);
});

test('a document that cannot be read is an error that names the request', async () => {
  mkdirSync(join(directory, 'documents', 'broken.log'), { recursive: true });
  const { port, lines } = await server();
  assert.equal(await handshake(port, '/broken', { 'X-Request-ID': 'r-1' }), 500);
  const errors = () => lines.filter(({ level }) => level === 'error');
  await until(() => errors().length > 0);
  const [{ message, document, requestId }] = errors();
  assert.deepEqual({ message, document, requestId }, { message: 'document not loaded', document: 'broken', requestId: 'r-1' });
});

test('says how many sockets are open, to whoever takes metrics', async () => {
  const statsd = createSocket('udp4');
  cleanups.push(() => statsd.close());
  await new Promise((resolve) => statsd.bind(0, '127.0.0.1', resolve));
  const heard = once(statsd, 'message');
  await server({ STATSD_HOST: '127.0.0.1', STATSD_PORT: String(statsd.address().port), SERVICE_NAME: 'relay' });
  assert.equal(String((await heard)[0]), 'OpenSockets:0|g|#Service:relay');
});
