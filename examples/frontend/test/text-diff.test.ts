import assert from 'node:assert/strict';
import { test } from 'node:test';

import { diff, movePosition } from '../src/coedit/textDiff.ts';

/** `a|b`: the caret is where the bar is. */
function changed(before: string, after: string) {
  const caret = after.indexOf('|');
  return diff(before, after.replace('|', ''), caret);
}

const changes: [string, string, object | null][] = [
  ['same', 'same|', null],
  ['', 'a|', { index: 0, remove: 0, insert: 'a' }],
  ['ac', 'ab|c', { index: 1, remove: 0, insert: 'b' }],
  ['abc', 'a|c', { index: 1, remove: 1, insert: '' }],
  ['abc', '|', { index: 0, remove: 3, insert: '' }],
  ['one two three', 'one 2| three', { index: 4, remove: 3, insert: '2' }],
  // Equal letters: the caret tells which one is new, or gone.
  ['aaa', 'aa|aa', { index: 1, remove: 0, insert: 'a' }],
  ['aaa', 'a|aaa', { index: 0, remove: 0, insert: 'a' }],
  ['aaa', 'a|a', { index: 1, remove: 1, insert: '' }],
  ['abab', 'ab|abab', { index: 0, remove: 0, insert: 'ab' }],
  // Both emoji begin with the same half, and so do these two end with one.
  ['😀', '😁|', { index: 0, remove: 2, insert: '😁' }],
  ['a😀b', 'a😁|b', { index: 1, remove: 2, insert: '😁' }],
  ['😀', '🐀|', { index: 0, remove: 2, insert: '🐀' }],
  ['😀', '😀😀|', { index: 2, remove: 0, insert: '😀' }],
];

for (const [before, after, expected] of changes) {
  test(`"${before}" to "${after}"`, () => assert.deepEqual(changed(before, after), expected));
}

test('whatever was typed, the change makes the new text of the old and cuts no character', () => {
  const pieces = ['a', 'b', '한', '😀', '😁', '🐀', '\n'];
  const random = (limit: number) => Math.floor(Math.random() * limit);
  const words = (count: number) => Array.from({ length: count }, () => pieces[random(pieces.length)]);
  for (let i = 0; i < 20_000; i++) {
    const text = words(random(8));
    const [from, to] = [random(text.length + 1), random(text.length + 1)].sort((a, b) => a - b) as [number, number];
    const typed = words(random(3));
    const before = text.join('');
    const after = [...text.slice(0, from), ...typed, ...text.slice(to)].join('');
    const caret = [...text.slice(0, from), ...typed].join('').length;
    const change = diff(before, after, caret) ?? { index: 0, remove: 0, insert: '' };
    const { index, remove, insert } = change;
    assert.equal(before.slice(0, index) + insert + before.slice(index + remove), after);
    const context = JSON.stringify({ before, after, caret, change });
    for (const part of [before.slice(0, index), before.slice(index, index + remove), insert]) {
      assert.ok(part.isWellFormed(), context);
    }
  }
});

const moves: [number, object[], number][] = [
  [5, [{ insert: 'ab' }], 7],
  [5, [{ retain: 5 }, { insert: 'ab' }], 5],
  [5, [{ retain: 6 }, { insert: 'ab' }], 5],
  [5, [{ delete: 2 }], 3],
  [5, [{ retain: 4 }, { delete: 3 }], 4],
  [5, [{ retain: 5 }, { delete: 3 }], 5],
  [5, [{ insert: 'ab' }, { retain: 2 }, { delete: 1 }], 6],
  [5, [{ delete: 5 }, { insert: 'ab' }], 0],
];

for (const [position, delta, expected] of moves) {
  test(`${position} after ${JSON.stringify(delta)} is ${expected}`, () => {
    assert.equal(movePosition(position, delta), expected);
  });
}
