export interface Note {
  id: number;
  text: string;
}

/** What server and clients agree on: a note is one line of at most 200 characters. */
export function cleanNote(input: unknown): string | undefined {
  if (typeof input !== 'string') return undefined;
  const text = input.replace(/\s+/g, ' ').trim();
  return text.length > 0 && text.length <= 200 ? text : undefined;
}
