import { open, rename, rm, stat } from 'node:fs/promises';
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { decodeRecords, encodeRecord } from './records.js';

async function syncDirectory(path) {
  const directory = await open(path);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * The updates of one document in a file that several processes share.
 *
 * Everybody appends whole records and reads what the others appended. Whoever
 * finds the file too large replaces it by a short one; the others notice by its
 * inode. Y.js updates may arrive twice and in any order, so when in doubt a
 * process writes again what it has, and nobody needs a lock.
 *
 * Calls must not overlap; Document sees to that.
 */
export class DocumentLog {
  #path;
  #writer;
  #file;
  #inode;
  /** End of what was read. */
  #offset = 0;
  /** Size of the file when it was read last. */
  #seen = 0;
  /** Where a half record was seen last time. */
  #damageAt = -1;
  #unsynced = false;

  constructor(path, writer) {
    this.#path = path;
    this.#writer = writer;
  }

  /** Bytes of records that are known. */
  get size() {
    return this.#offset;
  }

  /** Whether somebody else wrote. Costs one look at the directory entry. */
  changed() {
    const entry = statSync(this.#path, { throwIfNoEntry: false });
    return entry === undefined ? this.#file !== undefined : entry.ino !== this.#inode || entry.size !== this.#seen;
  }

  /** All there is, when nothing was read yet. */
  async load() {
    const { updates } = await this.read();
    if (this.#damageAt !== -1) {
      // Either another process is writing at this moment, or it died at it long ago.
      await sleep(50);
      updates.push(...(await this.read()).updates);
    }
    return updates;
  }

  /**
   * Updates that other processes wrote since the last call. `replaced` says that
   * the file is another one than before: the caller then has to append whatever
   * the updates lack of its own state.
   *
   * @returns {Promise<{updates: Buffer[], replaced: boolean}>}
   */
  async read() {
    const entry = await stat(this.#path).catch((error) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    let replaced = false;
    if (entry?.ino !== this.#inode) {
      replaced = this.#file !== undefined;
      await this.#forget();
    }
    if (!entry) return { updates: [], replaced };
    if (!this.#file) await this.#open();

    const fromStart = this.#offset === 0;
    const { records } = await this.#readOn();
    // On the first reading our own records count as well: they are of an earlier opening.
    const foreign = fromStart ? records : records.filter(({ writer }) => !writer.equals(this.#writer));
    return { updates: foreign.map(({ payload }) => payload), replaced };
  }

  /**
   * Appends an update. False says that the file was replaced meanwhile and the
   * update may be missing in the new one: the caller then reads, and makes up for it.
   */
  async append(update) {
    if (!this.#file) await this.#open();
    const record = encodeRecord(this.#writer, update);
    const { bytesWritten } = await this.#file.write(record);
    if (bytesWritten < record.length) throw new Error(`only ${bytesWritten} of ${record.length} bytes fit on the disk`);
    this.#unsynced = true;
    const entry = statSync(this.#path, { throwIfNoEntry: false });
    if (entry?.ino !== this.#inode) return false;
    if (entry.size === this.#offset + record.length) this.#offset = this.#seen = entry.size;
    return true;
  }

  /** Makes what was appended survive a loss of power. */
  async sync() {
    if (!this.#unsynced) return;
    this.#unsynced = false;
    try {
      await this.#file.datasync();
    } catch (error) {
      this.#unsynced = true;
      throw error;
    }
  }

  /**
   * Puts a new file that begins with this state in place of the log. Returns
   * updates that others appended to the old one in the last moment; they are
   * copied. A process that appends later still sees by itself that its file is gone.
   */
  async replace(state) {
    const temporary = `${this.#path}.${this.#writer.toString('hex')}.tmp`;
    const record = encodeRecord(this.#writer, state);
    const fresh = await open(temporary, 'a+', 0o600);
    await fresh.truncate(0);
    await fresh.writeFile(record);
    await fresh.sync();
    if (statSync(this.#path, { throwIfNoEntry: false })?.ino !== this.#inode) {
      // Somebody else was faster. Theirs will do.
      await fresh.close();
      await rm(temporary);
      return [];
    }
    await rename(temporary, this.#path);
    await syncDirectory(dirname(this.#path));

    const { records } = this.#file ? await this.#readOn(true) : { records: [] };
    await this.#forget();
    this.#file = fresh;
    this.#inode = (await fresh.stat()).ino;
    this.#offset = this.#seen = record.length;
    for (const { payload } of records) await this.append(payload);
    return records.map(({ payload }) => payload);
  }

  async close() {
    await this.sync();
    await this.#forget();
  }

  async #open() {
    const isNew = statSync(this.#path, { throwIfNoEntry: false }) === undefined;
    this.#file = await open(this.#path, 'a+', 0o600);
    this.#inode = (await this.#file.stat()).ino;
    if (isNew) await syncDirectory(dirname(this.#path));
  }

  async #forget() {
    await this.#file?.close();
    this.#file = this.#inode = undefined;
    this.#offset = this.#seen = 0;
    this.#damageAt = -1;
    this.#unsynced = false;
  }

  async #readOn(last = false) {
    const { size } = await this.#file.stat();
    const buffer = Buffer.alloc(Math.max(0, size - this.#offset));
    const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.#offset);
    // A record that is half there may be on its way. Only when nothing has become
    // of it by the next reading is it damage, and what stands behind it counts.
    const passDamage = last || this.#damageAt === this.#offset;
    const { records, consumed } = decodeRecords(buffer.subarray(0, bytesRead), passDamage);
    this.#seen = this.#offset + bytesRead;
    this.#offset += consumed;
    this.#damageAt = consumed < bytesRead ? this.#offset : -1;
    return { records };
  }
}
