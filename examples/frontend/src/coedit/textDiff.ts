export interface Change {
  index: number;
  remove: number;
  insert: string;
}

const isLowSurrogate = (code: number) => code >= 0xdc00 && code <= 0xdfff;

/**
 * The one change that turns `before` into `after`, as small as it can be.
 *
 * `caret` is where the cursor stands after the change. Typing "a" into "aaa"
 * could have happened anywhere; it happened in front of the cursor.
 */
export function diff(before: string, after: string, caret: number = after.length): Change | null {
  if (before === after) return null;
  const shorter = Math.min(before.length, after.length);
  const suffixAtMost = Math.min(shorter, after.length - caret);
  let suffix = 0;
  while (suffix < suffixAtMost && before.at(-1 - suffix) === after.at(-1 - suffix)) suffix++;
  let prefix = 0;
  while (prefix < shorter - suffix && before[prefix] === after[prefix]) prefix++;
  // Never cut a character in two that takes two places, such as an emoji.
  const cutsBefore = (text: string, at: number) => at > 0 && at < text.length && isLowSurrogate(text.charCodeAt(at));
  if (cutsBefore(before, prefix) || cutsBefore(after, prefix)) prefix--;
  if (cutsBefore(before, before.length - suffix) || cutsBefore(after, after.length - suffix)) suffix--;
  return {
    index: prefix,
    remove: before.length - suffix - prefix,
    insert: after.slice(prefix, after.length - suffix),
  };
}

export type Delta = { retain?: number; insert?: unknown; delete?: number }[];

/** Where a position is after somebody else's change. */
export function movePosition(position: number, delta: Delta): number {
  let at = 0;
  for (const { retain, insert, delete: removed } of delta) {
    if (at > position) break;
    if (retain !== undefined) at += retain;
    else if (typeof insert === 'string') {
      // Somebody types right at our cursor: ours stays in front of it.
      if (at < position) position += insert.length;
      at += insert.length;
    } else if (removed !== undefined) position = Math.max(at, position - removed);
  }
  return position;
}
