import assert from 'node:assert/strict';
import { test } from 'node:test';

import { tenantOf } from '../lib/tenant.ts';

const cases: [string | null, string | undefined, string | undefined][] = [
  ['recipes.example.com', 'example.com', 'recipes'],
  ['Recipes.Example.COM', 'example.com', 'recipes'],
  ['recipes.example.com:8443', 'example.com', 'recipes'],
  ['recipes.localhost:3002', undefined, 'recipes'],
  ['example.com', 'example.com', undefined],
  ['a.b.example.com', 'example.com', undefined],
  ['recipesexample.com', 'example.com', undefined],
  ['recipes.example.com.evil.net', 'example.com', undefined],
  ['-recipes.example.com', 'example.com', undefined],
  ['re_cipes.example.com', 'example.com', undefined],
  ['..%2f.example.com', 'example.com', undefined],
  ['.example.com', 'example.com', undefined],
  [`${'a'.repeat(64)}.example.com`, 'example.com', undefined],
  ['', 'example.com', undefined],
  [null, 'example.com', undefined],
  [null, undefined, undefined],
  ['localhost', undefined, undefined],
];

for (const [host, base, expected] of cases) {
  test(`${host} below ${base} is ${expected}`, () => assert.equal(tenantOf(host, base), expected));
}
