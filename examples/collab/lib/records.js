import { crc32 } from 'node:zlib';

/*
 * A log is a row of records:
 *
 *   magic "Ylr1" (4) | payload length (4) | CRC-32 of all that follows (4) | writer (8) | payload
 *
 * Each is appended whole, by one write. What a crash or a full disk leaves of a
 * record is recognised by its checksum and passed over.
 */
const MAGIC = Buffer.from('Ylr1');
const HEADER = 20;
export const MAX_PAYLOAD = 256 * 1024 * 1024;

/** @param {Buffer} writer eight bytes that name the process */
export function encodeRecord(writer, payload) {
  const record = Buffer.allocUnsafe(HEADER + payload.length);
  MAGIC.copy(record);
  record.writeUInt32BE(payload.length, 4);
  writer.copy(record, 12);
  record.set(payload, HEADER);
  record.writeUInt32BE(crc32(record.subarray(12)), 8);
  return record;
}

/** The record that starts at `start`, or undefined where there is no whole and sound one. */
function recordAt(buffer, start) {
  if (start + HEADER > buffer.length || buffer.compare(MAGIC, 0, 4, start, start + 4) !== 0) return undefined;
  const length = buffer.readUInt32BE(start + 4);
  const end = start + HEADER + length;
  if (length > MAX_PAYLOAD || end > buffer.length) return undefined;
  if (crc32(buffer.subarray(start + 12, end)) !== buffer.readUInt32BE(start + 8)) return undefined;
  return { writer: buffer.subarray(start + 12, start + HEADER), payload: buffer.subarray(start + HEADER, end), end };
}

/**
 * All records in the buffer, up to the first damage. With `passDamage` it looks
 * for sound records behind the damage as well.
 *
 * @returns {{records: {writer: Buffer, payload: Buffer}[], consumed: number}}
 *   `consumed` is the end of the last record: what follows is half written, or damaged.
 */
export function decodeRecords(buffer, passDamage) {
  const records = [];
  let consumed = 0;
  for (let start = 0; start !== -1 && start < buffer.length; ) {
    const record = recordAt(buffer, start);
    if (record) {
      records.push(record);
      start = consumed = record.end;
    } else if (passDamage) {
      start = buffer.indexOf(MAGIC, start + 1);
    } else {
      break;
    }
  }
  return { records, consumed };
}
