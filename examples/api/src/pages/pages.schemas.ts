import * as v from 'valibot';

import { jsonBody } from '../common/json-body.js';

/** One label of a domain name, since the page appears under it. */
export const SLUG = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

export const SlugSchema = v.pipe(
  v.string(),
  v.regex(SLUG, 'A page is named with 1 to 63 of a-z, 0-9 and hyphens, and no hyphen at either end'),
);

export const PageSchema = jsonBody({
  title: v.pipe(
    v.string('Give the page a title'),
    v.trim(),
    v.minLength(1, 'Give the page a title'),
    v.maxLength(200, 'The title has more than 200 characters'),
  ),
  body: v.pipe(v.string('Give the page a body'), v.maxLength(200_000, 'The body has more than 200000 characters')),
});

export type PageInput = v.InferOutput<typeof PageSchema>;
