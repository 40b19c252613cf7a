'use strict';

/**
 * Hands the open WebSockets of an application over to the process that replaces it, without the
 * application knowing: NODE_OPTIONS="--require=/path/to/handoff.cjs". Node.js 22 or newer.
 *
 * SIGUSR2, before new connections are sent to the other process: joins each document here with the same
 * document there, by a WebSocket client on either side that passes on what it hears. A document is what
 * has a path. Clients and servers of Y.js then bring both to the same state.
 *
 * SIGTERM: joins what is not joined yet; closes the clients' sockets with 1012, document after document;
 * then lets the application have its SIGTERM.
 *
 * HAND_OFF_PEER_PORT  where the other process listens, at the same address; without it nothing is joined. Instead of
 *                     it HAND_OFF_PORTS=blue:1,green:2 and HAND_OFF_SLOT=blue: a unit that is the same for both slots
 * HAND_OFF_RATE       sockets to close in a second (30)
 * HAND_OFF_TIMEOUT    seconds after which all are closed, even if that means a higher rate (20)
 * HAND_OFF_STATUS     file to write once SIGUSR2 has been obeyed
 */

const { renameSync, writeFileSync } = require('node:fs');
const { Server } = require('node:http');
const { connect } = require('node:net');
const { randomBytes } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { isMainThread } = require('node:worker_threads');

const SERVICE_RESTART = 1012;
/** y-protocols: what says who is present. */
const AWARENESS = 1;
/** Marks a bridge. The value names the process that made it. */
const HEADER = 'x-hand-off';
// Of a large document so many leave at once: they all reconnect in the same instant.
const TOGETHER = 10;
// Documents that nobody has open any more, but may be in the application's memory still.
const REMEMBERED = 2_000;
const BRIDGES_AT_ONCE = 32;
// A document counts as joined when nothing was said for a moment; where people type, after half a second.
const QUIET = 100;
const SETTLED = 500;
const HANDSHAKE = 3_000;
const LAST_GOODBYE = 2_000;
const LOOK_EVERY = 1_000;
// So many refusals of a document, or looks at a peer that is not there, and no more until the next SIGUSR2.
const ATTEMPTS = 3;
const LOOKS = 60;

/** path → {path, url, headers, address, port, sockets, incoming, bridge, refusals, leaving}; the latest is last. */
const documents = new Map();
const identity = randomBytes(16).toString('hex');
const peerPort = setting('HAND_OFF_PEER_PORT', otherSlotsPort(), 1, 65535);
const rate = setting('HAND_OFF_RATE', 30, 1, 100_000);
const timeout = setting('HAND_OFF_TIMEOUT', 20, 0, 3_600) * 1_000;

/** Whether documents are being joined. */
let joining = false;
/** undefined → 'leaving' → 'left' */
let stopping;

function log(level, message, fields) {
  try {
    const line = JSON.stringify({ time: new Date().toISOString(), level, message: `hand-off: ${message}`, ...fields });
    process.stderr.write(`${line}\n`);
  } catch {
    // With nowhere to write, the application is still to be left in peace.
  }
}

/** Runs what must never break the application. */
function safely(work) {
  const failed = (error) => log('error', 'failed', { reason: String(error), stack: error?.stack });
  try {
    const result = work();
    return result instanceof Promise ? result.catch(failed) : result;
  } catch (error) {
    failed(error);
    return undefined;
  }
}

function setting(name, fallback, min, max) {
  const raw = process.env[name];
  if (!raw) return fallback;
  const value = Number(raw);
  if (value >= min && value <= max) return value;
  log('error', 'wrong setting', { reason: `${name} is "${raw}": set it to a number from ${min} to ${max}` });
  return fallback;
}

function otherSlotsPort() {
  const { HAND_OFF_PORTS: ports, HAND_OFF_SLOT: slot } = process.env;
  if (!ports || !slot) return 0;
  const other = ports.split(',').find((item) => !item.startsWith(`${slot}:`));
  return Number(other?.split(':')[1]) || 0;
}

// --- who is there -------------------------------------------------------------

/** Takes note of an upgrade. True says that it was answered here. */
function watch(request, socket) {
  const [path] = request.url.split('?', 1);
  // Whoever came through nginx has X-Forwarded-For, and cannot pass for the other process.
  const maker = request.headers['x-forwarded-for'] === undefined ? request.headers[HEADER] : undefined;
  if (maker === identity) return false;
  if (stopping === 'leaving' && maker === undefined) {
    socket.on('error', () => {});
    socket.end('HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    return true;
  }
  accepted(socket, () => {
    const document = documentAt(path);
    const group = maker === undefined ? document.sockets : document.incoming;
    group.add(socket);
    socket.once('close', () => group.delete(socket));
    if (maker !== undefined) {
      // Two bridges would pass messages round and round. Of two made at once, one has to go.
      if (document.bridge && document.port < peerPort) document.bridge.close();
      return;
    }
    const { authorization, cookie, origin, 'sec-websocket-protocol': protocols } = request.headers;
    const headers = { authorization, cookie, origin };
    for (const name of Object.keys(headers)) if (headers[name] === undefined) delete headers[name];
    const { localAddress: address, localPort: port } = socket;
    Object.assign(document, { url: request.url, headers, protocols, address, port, refusals: 0 });
    if (joining) void safely(() => join(document));
  });
  return false;
}

/** Calls back if the application's first words on the socket accept the handshake. */
function accepted(socket, callback) {
  const { write } = socket;
  const own = Object.hasOwn(socket, 'write');
  socket.write = function (...words) {
    if (own) socket.write = write;
    else delete socket.write;
    safely(() => {
      const start = typeof words[0] === 'string' ? words[0] : Buffer.from(words[0]).toString('latin1', 0, 12);
      if (/^HTTP\/1\.1 101/.test(start)) callback();
    });
    return Reflect.apply(write, this, words);
  };
}

function documentAt(path) {
  const document = documents.get(path) ?? { path, sockets: new Set(), incoming: new Set(), refusals: 0 };
  documents.delete(path);
  documents.set(path, document);
  let surplus = documents.size - REMEMBERED;
  for (const [other, { sockets, bridge }] of documents) {
    if (surplus-- <= 0) break;
    if (sockets.size === 0 && !bridge && other !== path) documents.delete(other);
  }
  return document;
}

// --- bridges ------------------------------------------------------------------

/** Joins a document with that of the other process, unless it is; returns when both know the same. */
function join(document) {
  if (!document.port || document.incoming.size > 0 || document.refusals >= ATTEMPTS) return undefined;
  document.bridge ??= makeBridge(document);
  return document.bridge.settled;
}

function makeBridge(document) {
  const host = document.address.includes(':') ? `[${document.address}]` : document.address;
  const options = {
    headers: { ...document.headers, [HEADER]: identity },
    protocols: document.protocols?.split(',').map((protocol) => protocol.trim()) ?? [],
  };
  const ends = [document.port, peerPort].map((port) => new WebSocket(`ws://${host}:${port}${document.url}`, options));
  const waiting = [[], []];
  const bridge = { ends, lastWord: 0, isOpen: false, close: () => ends.forEach((end) => end.close()) };
  bridge.settled = new Promise((resolve) => {
    const tooLong = setTimeout(bridge.close, HANDSHAKE);
    const ended = (event) => {
      clearTimeout(tooLong);
      if (document.bridge !== bridge) return;
      document.bridge = undefined;
      if (!bridge.isOpen) {
        document.refusals++;
        const side = event.target === ends[0] ? 'this process' : 'the other process';
        log('warn', 'document not joined', { document: document.path, reason: `${side} refused` });
      }
      bridge.close();
      resolve();
    };
    ends.forEach((end, index) => {
      const [other, unsent] = [ends[1 - index], waiting[1 - index]];
      end.binaryType = 'arraybuffer';
      end.onerror = end.onclose = ended;
      end.onmessage = ({ data }) => {
        bridge.lastWord = performance.now();
        if (index === 0 && document.leaving && new Uint8Array(data)[0] === AWARENESS) return;
        if (other.readyState === WebSocket.OPEN) other.send(data);
        else unsent.push(data);
      };
      end.onopen = async () => {
        for (const data of waiting[index].splice(0)) end.send(data);
        if (other.readyState !== WebSocket.OPEN) return;
        clearTimeout(tooLong);
        bridge.isOpen = true;
        await quiet([bridge], SETTLED);
        resolve();
      };
    });
  });
  return bridge;
}

/** Waits until these bridges are silent, but not longer than so many milliseconds. */
async function quiet(bridges, limit) {
  const end = performance.now() + limit;
  const lastWord = () => Math.max(end - limit, ...bridges.map((bridge) => bridge.lastWord));
  while (performance.now() < Math.min(end, lastWord() + QUIET)) await sleep(10);
}

/** Joins all documents, those that somebody has open first. */
async function joinAll(deadline = Infinity) {
  const all = [...documents.values()].reverse();
  const todo = [...all.filter(({ sockets }) => sockets.size > 0), ...all.filter(({ sockets }) => sockets.size === 0)];
  const work = async () => {
    while (todo.length > 0 && performance.now() < deadline) await join(todo.shift());
  };
  await Promise.all(Array.from({ length: BRIDGES_AT_ONCE }, work));
}

/** Whether somebody listens on the other process' port. */
function peerListens() {
  const { address } = [...documents.values()].findLast((document) => document.address) ?? { address: '127.0.0.1' };
  return new Promise((resolve) => {
    const socket = connect(peerPort, address);
    socket.setTimeout(1_000, () => socket.destroy());
    socket.once('connect', () => resolve(true));
    socket.once('connect', () => socket.destroy());
    socket.once('error', () => {});
    socket.once('close', () => resolve(false));
  });
}

/** Joins all documents, and again those whose bridge broke: the other process may have been restarted. */
async function keepJoined() {
  for (const document of documents.values()) document.refusals = 0;
  const canJoin = Boolean(peerPort) && typeof WebSocket === 'function';
  if (!joining && canJoin) {
    joining = true;
    void safely(lookAfterBridges);
  }
  if (canJoin && (await peerListens())) await joinAll();
  const status = { documents: documents.size, joined: joinedCount() };
  log('info', 'joined documents', status);
  if (process.env.HAND_OFF_STATUS) {
    const temporary = `${process.env.HAND_OFF_STATUS}.${process.pid}.tmp`;
    writeFileSync(temporary, JSON.stringify(status));
    renameSync(temporary, process.env.HAND_OFF_STATUS);
  }
}

const isJoined = ({ bridge, incoming }) => bridge?.isOpen || incoming.size > 0;
const joinedCount = () => [...documents.values()].filter(isJoined).length;

async function lookAfterBridges() {
  let looks = 0;
  while (!stopping && looks < LOOKS) {
    await sleep(LOOK_EVERY, undefined, { ref: false });
    const before = joinedCount();
    if (stopping || before === documents.size) continue;
    looks = (await peerListens()) ? 0 : looks + 1;
    if (looks === 0) await joinAll();
    const joined = joinedCount();
    if (joined > before) log('info', 'joined documents again', { documents: documents.size, joined });
  }
  joining = false;
}

// --- leaving ------------------------------------------------------------------

async function handOff() {
  const started = performance.now();
  const peer = peerPort ? await peerListens() : undefined;
  if (peer && typeof WebSocket === 'function') await safely(() => joinAll(started + timeout / 2));
  const open = shuffled([...documents.values()].filter(({ sockets }) => sockets.size > 0));
  const connections = open.reduce((sum, { sockets }) => sum + sockets.size, 0);
  const joined = joinedCount();
  const time = Math.max(0, timeout - (performance.now() - started));
  // With nobody to take over, to wait only makes it longer until somebody does.
  const spacing = peer === false ? 0 : Math.min(1_000 / rate, time / connections);
  let due = performance.now();
  for (const document of open) {
    // The other side is not told that they left: they are coming.
    document.leaving = true;
    const sockets = [...document.sockets];
    for (let first = 0; first < sockets.length; first += TOGETHER) {
      const wait = due - performance.now();
      if (wait > 0) await sleep(wait);
      const group = sockets.slice(first, first + TOGETHER);
      group.forEach(sendAway);
      due += group.length * spacing * (0.8 + 0.4 * Math.random());
    }
  }
  const end = performance.now() + LAST_GOODBYE;
  while (open.some(({ sockets }) => sockets.size > 0) && performance.now() < end) await sleep(10);
  for (const { sockets } of open) for (const socket of sockets) socket.destroy();
  await closeBridges();
  const ms = Math.round(performance.now() - started);
  log('info', 'sent clients away', { documents: open.length, connections, joined, ms });
}

function sendAway(socket) {
  if (!socket.writable) return;
  const reason = Buffer.from('service restart');
  const frame = Buffer.concat([Buffer.from([0x88, 2 + reason.length, 0, 0]), reason]);
  frame.writeUInt16BE(SERVICE_RESTART, 2);
  socket.on('error', () => {});
  socket.write(frame);
}

async function closeBridges() {
  const bridges = [...documents.values()].map(({ bridge }) => bridge).filter(Boolean);
  if (bridges.length === 0) return;
  await quiet(bridges, SETTLED);
  const ends = bridges.flatMap((bridge) => bridge.ends);
  for (const bridge of bridges) bridge.close();
  const end = performance.now() + SETTLED;
  while (ends.some(({ readyState }) => readyState !== WebSocket.CLOSED) && performance.now() < end) await sleep(10);
}

function shuffled(items) {
  for (let last = items.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1));
    [items[last], items[other]] = [items[other], items[last]];
  }
  return items;
}

// --- beginning ----------------------------------------------------------------

/** Holds SIGTERM back from the application until its sockets are gone. */
function holdSigterm() {
  const { emit } = process;
  const keepDefaultAway = () => {};
  const release = () => {
    stopping = 'left';
    process.removeListener('SIGTERM', keepDefaultAway);
    if (process.listenerCount('SIGTERM') > 0) process.emit('SIGTERM', 'SIGTERM', 15);
    else process.kill(process.pid, 'SIGTERM');
  };
  process.emit = function (event, ...values) {
    if (event !== 'SIGTERM' || stopping === 'left') return Reflect.apply(emit, this, [event, ...values]);
    if (stopping === undefined) {
      stopping = 'leaving';
      if (documents.size === 0) release();
      else void safely(handOff).then(release);
    }
    return true;
  };
  // After the line above: Node.js binds process.emit when the first listener comes.
  process.on('SIGTERM', keepDefaultAway);
}

function watchUpgrades() {
  const { emit } = Server.prototype;
  Server.prototype.emit = function (event, ...values) {
    if (event === 'upgrade' && safely(() => watch(values[0], values[1]))) return true;
    return Reflect.apply(emit, this, [event, ...values]);
  };
}

if (isMainThread) {
  safely(() => {
    watchUpgrades();
    holdSigterm();
    process.on('SIGUSR2', () => void safely(keepJoined));
  });
}
