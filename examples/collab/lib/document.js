import { Awareness, removeAwarenessStates } from 'y-protocols/awareness';
import * as Y from 'yjs';

import { DocumentLog } from './document-log.js';
import { awarenessMessage, updateMessage } from './protocol.js';

/** Origin of what comes from the file: it is not written there again. */
const FROM_LOG = Symbol('from the log');

const WRITE_AFTER = 20;
const SYNC_AFTER = 500;
const RETRY_AFTER = 1_000;

// A log is rewritten when it holds twice as many bytes as its content needs, and these on top.
const SMALL = 64 * 1024;

/** One document: its content, who is present, the sockets that have it open, and its log. */
export class Document {
  doc = new Y.Doc();
  awareness = new Awareness(this.doc);
  /** Each has `send(message)`; the value is the awareness clients that speak through it. */
  connections = new Map();
  /** Why the last attempt to write failed, if it did. */
  failure;

  #log;
  #report;
  #unwritten = [];
  #timer;
  #due = Infinity;
  #catchingUp = false;
  #turn = Promise.resolve();
  #compactAbove = SMALL;

  /**
   * @param {string} path file of the log
   * @param {Buffer} writer eight bytes that name this process
   * @param {(error: Error) => void} report told of each failure to read or write
   */
  constructor(path, writer, report) {
    this.#log = new DocumentLog(path, writer);
    this.#report = report;
    this.awareness.setLocalState(null);
    this.doc.on('update', (update, origin) => this.#updated(update, origin));
    this.awareness.on('update', (change, origin) => this.#presenceChanged(change, origin));
  }

  async load() {
    try {
      await this.#exclusively(async () => {
        this.#apply(await this.#log.load());
        await this.#compactIfLarge();
      });
    } catch (error) {
      this.awareness.destroy();
      throw error;
    }
  }

  connect(connection) {
    this.connections.set(connection, new Set());
  }

  disconnect(connection) {
    const clients = this.connections.get(connection) ?? [];
    this.connections.delete(connection);
    removeAwarenessStates(this.awareness, [...clients], connection);
  }

  /** Takes over what another process wrote, if there is anything. */
  async catchUp() {
    if (this.#catchingUp) return;
    this.#catchingUp = true;
    try {
      if (this.#log.changed()) await this.#exclusively(() => this.#readOthers());
    } catch (error) {
      this.#report(error);
    } finally {
      this.#catchingUp = false;
    }
  }

  /** Returns once all that was said so far is on the disk. */
  async flush() {
    clearTimeout(this.#timer);
    this.#due = Infinity;
    await this.#exclusively(async () => {
      await this.#write();
      await this.#log.sync();
    });
  }

  /** Writes everything and lets go of the document. */
  async close() {
    await this.flush();
    await this.#exclusively(async () => {
      await this.#compactIfLarge();
      await this.#log.close();
    });
    clearTimeout(this.#timer);
    this.awareness.destroy();
    this.doc.destroy();
  }

  #updated(update, origin) {
    const message = updateMessage(update);
    for (const connection of this.connections.keys()) {
      if (connection !== origin) connection.send(message);
    }
    if (origin === FROM_LOG) return;
    this.#unwritten.push(update);
    this.#schedule(WRITE_AFTER);
  }

  #presenceChanged({ added, updated, removed }, origin) {
    const clients = this.connections.get(origin);
    if (clients) {
      for (const client of [...added, ...updated]) clients.add(client);
      for (const client of removed) clients.delete(client);
    }
    // The speaker hears it too: y-websocket takes 30 s of silence for a dead connection.
    const message = awarenessMessage(this.awareness, [...added, ...updated, ...removed]);
    for (const connection of this.connections.keys()) connection.send(message);
    // Who was away for a moment says what the others have heard before, and they pass over it:
    // after a hand-off nobody would see anybody for 15 s. Told to be gone, it contradicts anew.
    if (clients && added.length > 0) origin.send(awarenessMessage(this.awareness, added, new Map()));
  }

  /** Runs `#save` after so many milliseconds, or sooner where that was planned already. */
  #schedule(delay) {
    const due = performance.now() + delay;
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#due = Infinity;
      void this.#save();
    }, delay);
  }

  /** Many updates are written as one, and many writes are made durable by one sync. */
  async #save() {
    try {
      await this.#exclusively(async () => {
        if (this.#unwritten.length > 0) {
          await this.#write();
          await this.#compactIfLarge();
          this.#schedule(SYNC_AFTER);
        } else {
          await this.#log.sync();
        }
      });
      this.failure = undefined;
    } catch (error) {
      this.failure = error;
      this.#report(error);
      this.#schedule(RETRY_AFTER);
    }
  }

  async #write() {
    if (this.#unwritten.length === 0) return;
    const batch = this.#unwritten;
    this.#unwritten = [];
    try {
      const inPlace = await this.#log.append(Y.mergeUpdates(batch));
      if (!inPlace) await this.#readOthers();
    } catch (error) {
      this.#unwritten = [...batch, ...this.#unwritten];
      throw error;
    }
  }

  async #readOthers() {
    const { updates, replaced } = await this.#log.read();
    this.#apply(updates);
    if (!replaced) return;
    // The new file holds what its maker knew. Add what only we know.
    const known = updates.length > 0 ? Y.encodeStateVectorFromUpdate(Y.mergeUpdates(updates)) : undefined;
    await this.#log.append(Y.encodeStateAsUpdate(this.doc, known));
  }

  async #compactIfLarge() {
    if (this.#log.size <= this.#compactAbove) return;
    const state = Y.encodeStateAsUpdate(this.doc);
    this.#compactAbove = SMALL + 2 * state.length;
    if (this.#log.size <= this.#compactAbove) return;
    try {
      await this.#readOthers();
      this.#apply(await this.#log.replace(Y.encodeStateAsUpdate(this.doc)));
    } catch (error) {
      // The long log is as good as the short one; the next attempt comes when it has doubled.
      this.#compactAbove = 2 * this.#log.size;
      this.#report(error);
    }
  }

  #apply(updates) {
    if (updates.length > 0) Y.applyUpdate(this.doc, Y.mergeUpdates(updates), FROM_LOG);
  }

  /** One piece of work on the log at a time. */
  #exclusively(work) {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }
}
