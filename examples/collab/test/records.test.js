import assert from 'node:assert/strict';
import { test } from 'node:test';

import { decodeRecords, encodeRecord } from '../lib/records.js';

const writer = Buffer.from('writer-1');
const record = (text) => encodeRecord(writer, Buffer.from(text));
const texts = (result) => result.records.map(({ payload }) => payload.toString());

test('what was encoded is decoded, with its writer', () => {
  const buffer = Buffer.concat([record('one'), record(''), record('three')]);
  const result = decodeRecords(buffer, false);
  assert.deepEqual(texts(result), ['one', '', 'three']);
  assert.equal(result.consumed, buffer.length);
  assert.ok(result.records[0].writer.equals(writer));
});

test('a tail cut off at any byte costs that record only', () => {
  const whole = Buffer.concat([record('one'), record('two')]);
  const first = record('one').length;
  for (let length = first; length < whole.length; length++) {
    for (const passDamage of [false, true]) {
      const result = decodeRecords(whole.subarray(0, length), passDamage);
      assert.deepEqual(texts(result), ['one'], `${length} bytes`);
      assert.equal(result.consumed, first);
    }
  }
});

test('one wrong byte anywhere in a record costs that record only', () => {
  const damaged = Buffer.concat([record('one'), record('two'), record('three')]);
  const [from, to] = [record('one').length, record('one').length + record('two').length];
  for (let at = from; at < to; at++) {
    const buffer = Buffer.from(damaged);
    buffer[at] ^= 0xff;
    assert.deepEqual(texts(decodeRecords(buffer, false)), ['one'], `byte ${at}`);
    const passed = decodeRecords(buffer, true);
    assert.deepEqual(texts(passed), ['one', 'three'], `byte ${at}`);
    assert.equal(passed.consumed, buffer.length);
  }
});

test('records behind a torn one are found, wherever it was torn', () => {
  const torn = record('torn');
  for (let length = 0; length < torn.length; length++) {
    const buffer = Buffer.concat([record('one'), torn.subarray(0, length), record('two')]);
    assert.deepEqual(texts(decodeRecords(buffer, true)), ['one', 'two'], `${length} bytes`);
  }
});

test('noise is no record', () => {
  assert.deepEqual(texts(decodeRecords(Buffer.alloc(1000, 'Ylr1'), true)), []);
  assert.deepEqual(texts(decodeRecords(Buffer.alloc(0), true)), []);
});
