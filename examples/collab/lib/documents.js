import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { Document } from './document.js';
import { describeError, log } from './log.js';

const CATCH_UP_EVERY = 200;
// A document stays a while after its last reader: a page that is reloaded finds it at once.
const KEEP_UNUSED = 30_000;

export class TooManyDocuments extends Error {}

/** The documents in memory, each loaded when first opened and put away when nobody has it open. */
export class Documents {
  /** name → {document, loaded: Promise, holders, unusedSince} */
  #entries = new Map();
  #writer = randomBytes(8);
  #directory;
  #limit;
  #timer;

  constructor(directory, limit) {
    this.#directory = directory;
    this.#limit = limit;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#removeLeftovers();
    this.#timer = setInterval(() => this.#tick(), CATCH_UP_EVERY);
  }

  get count() {
    return this.#entries.size;
  }

  /** Documents that somebody has open. */
  get open() {
    const documents = [...this.#entries.values()].map(({ document }) => document);
    return documents.filter(({ connections }) => connections.size > 0);
  }

  /** Why something could not be written, or undefined when all is well. */
  get failure() {
    for (const { document } of this.#entries.values()) {
      if (document.failure) return document.failure.code ?? document.failure.message;
    }
    return undefined;
  }

  /** The document with this name; it stays in memory until `release` is called as often as this. */
  async acquire(name) {
    let entry = this.#entries.get(name);
    // Being put away: wait, and read it again.
    while (entry?.closing) {
      await entry.closing;
      entry = this.#entries.get(name);
    }
    if (!entry) {
      this.#makeRoom();
      const report = (error) => log.error('document not saved', { document: name, ...describeError(error) });
      const document = new Document(join(this.#directory, `${name}.log`), this.#writer, report);
      entry = { document, loaded: document.load(), holders: 0, unusedSince: 0 };
      this.#entries.set(name, entry);
      entry.loaded.catch(() => this.#entries.delete(name));
    }
    entry.holders++;
    await entry.loaded;
    await entry.document.catchUp();
    return entry.document;
  }

  release(name) {
    const entry = this.#entries.get(name);
    if (!entry) return;
    entry.holders--;
    entry.unusedSince = performance.now();
  }

  async flush() {
    await Promise.all([...this.#entries.values()].map(({ document }) => document.flush()));
  }

  async close() {
    clearInterval(this.#timer);
    await Promise.all([...this.#entries.values()].map(({ closing, document }) => closing ?? document.close()));
    this.#entries.clear();
  }

  #tick() {
    const now = performance.now();
    for (const [name, entry] of this.#entries) {
      if (entry.closing) continue;
      if (entry.holders > 0) void entry.document.catchUp();
      else if (now - entry.unusedSince > KEEP_UNUSED) this.#putAway(name, entry);
    }
  }

  /** Throws TooManyDocuments where all are in use. */
  #makeRoom() {
    if (this.#entries.size < this.#limit) return;
    let oldest;
    for (const [name, entry] of this.#entries) {
      if (entry.holders > 0 || entry.closing) continue;
      if (!oldest || entry.unusedSince < oldest.entry.unusedSince) oldest = { name, entry };
    }
    if (!oldest) throw new TooManyDocuments(`${this.#limit} documents are open: raise MAX_DOCUMENTS`);
    this.#putAway(oldest.name, oldest.entry);
  }

  #putAway(name, entry) {
    entry.closing = entry.document
      .close()
      .then(() => this.#entries.delete(name))
      .catch((error) => {
        // It could not be written: it stays in memory, where it is not lost.
        log.error('document not put away', { document: name, ...describeError(error) });
        entry.unusedSince = performance.now();
      })
      .finally(() => (entry.closing = undefined));
  }

  /** Files that a process was writing when it was killed. A minute old, they are nobody's. */
  #removeLeftovers() {
    for (const file of readdirSync(this.#directory)) {
      if (!file.endsWith('.tmp')) continue;
      const path = join(this.#directory, file);
      const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > 60_000) rmSync(path, { force: true });
    }
  }
}
