import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isSlug, toSlug } from '../src/slug.ts';

const names: [string, string][] = [
  ['My first page!', 'my-first-page'],
  ['  Crème brûlée  ', 'creme-brulee'],
  ['recipes', 'recipes'],
  ['--a--', 'a'],
  ['!!!', ''],
  ['x'.repeat(80), 'x'.repeat(63)],
  [`${'x'.repeat(62)} y`, 'x'.repeat(62)],
];

for (const [name, slug] of names) {
  test(`"${name}" becomes "${slug}"`, () => {
    assert.equal(toSlug(name), slug);
    assert.equal(isSlug(slug), slug !== '');
  });
}

test('only a label of a domain name will do', () => {
  for (const slug of ['A', 'a_b', '-a', 'a-', 'a.b', 'a/b', '', 'a'.repeat(64)]) {
    assert.equal(isSlug(slug), false, slug);
  }
});
