/**
 * People who edit documents together, and what a replacement of the relay does to them.
 *
 *     node sockets.mjs ws://127.0.0.1:PORT SOCKETS DOCUMENTS [ADDRESS [PATIENCE]]
 *
 * They connect to ADDRESS whatever the URL's name is, and wait so many milliseconds for each other at most.
 * Reads a word a line: `late` has somebody new open each document; at `settle` all stop typing, and wait until they
 * see the same; `finish` does that and ends. Answers each with a line of JSON, and the first when all are there and
 * typing.
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import WebSocket from 'ws';
import { WebsocketProvider } from 'y-websocket';
import * as Y from 'yjs';

const [url, sockets, documents] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const address = process.argv[5];
// Each person's, in milliseconds.
const TYPE_EVERY = 800;
// What was typed longer ago has to be known to whoever comes.
const KNOWN_AFTER = 1_000;
const PATIENCE = Number(process.argv[6] ?? 15_000);

// Each provider listens for the end of the process.
process.setMaxListeners(0);

const now = () => performance.now();
const round = (milliseconds) => Math.round(milliseconds) / 1000;
const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);
const mark = /<[^>]*>/g;
// Documents may hold what others wrote before.
const RUN = Date.now().toString(36);

/** When each edit was made, by the mark that it left. */
const edits = new Map();
const lateness = [];
const connects = [];
const outages = [];
let typing = true;
let serial = 0;

/** A socket that goes to the address that was given. */
class Socket extends WebSocket {
  constructor(place, protocols) {
    const lookup = (_name, { all }, done) => (all ? done(null, [{ address, family: 4 }]) : done(null, address, 4));
    super(place, protocols, address && { lookup });
  }
}

/** A socket that notes when it was opened. */
class NotedSocket extends Socket {
  constructor(...values) {
    super(...values);
    connects.push(now());
  }
}

class Person {
  doc = new Y.Doc();
  text = this.doc.getText('text');
  #lostAt;

  constructor(name, isVisitor = false) {
    this.name = name;
    this.isVisitor = isVisitor;
    this.text.observe(({ delta, transaction }) => {
      if (transaction.local || this.isVisitor) return;
      for (const { insert } of delta) {
        for (const found of insert?.match(mark) ?? []) if (edits.has(found)) lateness.push(now() - edits.get(found).at);
      }
    });
    const WebSocketPolyfill = isVisitor ? Socket : NotedSocket;
    this.provider = new WebsocketProvider(url, name, this.doc, { WebSocketPolyfill, disableBc: true });
    this.provider.awareness.setLocalStateField('user', serial);
    this.provider.on('connection-close', () => (this.#lostAt ??= now()));
    this.provider.on('sync', (synced) => {
      if (!synced || this.#lostAt === undefined) return;
      outages.push(now() - this.#lostAt);
      this.#lostAt = undefined;
    });
  }

  get isOut() {
    return this.#lostAt !== undefined;
  }

  async synced() {
    const end = now() + PATIENCE;
    while (!this.provider.synced && now() < end) await sleep(2);
    if (!this.provider.synced) throw new Error(`${this.name} did not open within ${PATIENCE} ms`);
  }

  type() {
    const edit = `<${this.name}.${RUN}.${++serial}>`;
    edits.set(edit, { at: now(), name: this.name });
    this.text.insert(this.text.length, edit);
  }

  async keepTyping() {
    await sleep(Math.random() * TYPE_EVERY);
    while (typing) {
      this.type();
      await sleep(TYPE_EVERY * (0.8 + 0.4 * Math.random()));
    }
  }
}

function expected(name, before = Infinity) {
  return [...edits].filter(([, edit]) => edit.name === name && edit.at < before).map(([found]) => found);
}

/** How many connects there were in the busiest second. */
function peak() {
  let first = 0;
  return connects.reduce((most, at, index) => {
    while (at - connects[first] > 1_000) first++;
    return Math.max(most, index - first + 1);
  }, 0);
}

/** Somebody new opens each document: what do they find? */
async function late() {
  const found = { documents: 0, empty: 0, incomplete: 0 };
  const before = now() - KNOWN_AFTER;
  const visit = async (name) => {
    const visitor = new Person(name, true);
    await visitor.synced();
    const text = visitor.text.toString();
    found.documents++;
    if (text === '') found.empty++;
    if (!expected(name, before).every((edit) => text.includes(edit))) found.incomplete++;
    visitor.provider.destroy();
  };
  await Promise.all([...names, ...left].map(visit));
  return found;
}

async function settle() {
  typing = false;
  const end = now() + PATIENCE;
  const isSettled = () => {
    if (people.some((person) => person.isOut)) return false;
    return names.every((name) => {
      const texts = people.filter((person) => person.name === name).map(({ text }) => text.toString());
      return texts.every((text) => text === texts[0]) && expected(name).every((edit) => texts[0].includes(edit));
    });
  };
  while (!isSettled() && now() < end) await sleep(50);
  let [missing, split] = [0, 0];
  for (const name of names) {
    const texts = people.filter((person) => person.name === name).map(({ text }) => text.toString());
    missing += expected(name).filter((edit) => !texts.every((text) => text.includes(edit))).length;
    if (!texts.every((text) => text === texts[0])) split++;
  }
  const crowd = (name) => people.filter((person) => person.name === name).length;
  const alone = () => people.filter(({ name, provider }) => provider.awareness.getStates().size < crowd(name));
  for (let waited = 0; alone().length > 0 && waited < 1_000; waited += 50) await sleep(50);
  return {
    moved: outages.length,
    out: round(largest(outages)),
    late: round(largest(lateness)),
    peak: peak(),
    edits: edits.size,
    missing,
    split,
    // So many do not see all who are there, a second later.
    unaware: alone().length,
  };
}

const names = Array.from({ length: documents }, (_, index) => `document-${index}`);
// Written and left before anything happens.
const left = Array.from({ length: Math.ceil(documents / 4) }, (_, index) => `left-${index}`);
await Promise.all(
  left.map(async (name) => {
    const visitor = new Person(name, true);
    await visitor.synced();
    visitor.type();
    await sleep(50);
    visitor.provider.destroy();
  }),
);
const people = [];
for (let index = 0; index < sockets; index++) {
  people.push(new Person(names[index % documents]));
  await sleep(5);
}
await Promise.all(people.map((person) => person.synced()));
for (const person of people) void person.keepTyping();
await sleep(1.5 * TYPE_EVERY);
// Only what comes now counts.
connects.splice(0);
lateness.splice(0);
const say = (value) => console.log(JSON.stringify(value));
say({ people: people.length });

for await (const line of createInterface(process.stdin)) {
  if (line === 'late') say(await late());
  if (line === 'settle' || line === 'finish') say(await settle());
  if (line === 'finish') process.exit(0);
}
