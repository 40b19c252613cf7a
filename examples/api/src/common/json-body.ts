import * as v from 'valibot';

/** A JSON object with these members; others are dropped. */
export function jsonBody<Entries extends v.ObjectEntries>(entries: Entries) {
  return v.object(entries, (issue) => (issue.path ? 'is missing' : 'Send a JSON object'));
}
