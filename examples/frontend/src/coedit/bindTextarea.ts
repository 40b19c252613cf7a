import * as Y from 'yjs';

import { type Delta, diff, movePosition } from './textDiff.ts';

/**
 * Keeps a textarea and a shared text the same; returns what undoes that.
 *
 * The textarea works on a copy of the document. While somebody composes a
 * character (Hangul, for one, takes several keys each) other people's changes
 * wait outside: writing to the textarea would break the character off.
 */
export function bindTextarea(textarea: HTMLTextAreaElement, shared: Y.Text): () => void {
  const outside = shared.doc!;
  const inside = new Y.Doc();
  const text = inside.getText('text');
  let shown = '';
  let composing = false;
  let waiting: Uint8Array[] = [];

  const takeIn = (update: Uint8Array) => Y.applyUpdate(inside, update, 'outside');
  const fromOutside = (update: Uint8Array, origin: unknown) => {
    if (origin === 'inside') return;
    if (composing) waiting.push(update);
    else takeIn(update);
  };
  const fromInside = (update: Uint8Array, origin: unknown) => {
    if (origin !== 'outside') Y.applyUpdate(outside, update, 'inside');
  };
  const show = (event: Y.YTextEvent, transaction: Y.Transaction) => {
    if (transaction.origin !== 'outside') return;
    const delta = event.delta as Delta;
    const { selectionStart, selectionEnd, selectionDirection, scrollTop } = textarea;
    shown = text.toString();
    textarea.value = shown;
    textarea.setSelectionRange(
      movePosition(selectionStart, delta),
      movePosition(selectionEnd, delta),
      selectionDirection,
    );
    textarea.scrollTop = scrollTop;
  };
  const typed = () => {
    // A textarea's lines end with \n alone, whatever was pasted.
    const change = diff(shown, textarea.value, textarea.selectionEnd);
    if (!change) return;
    shown = textarea.value;
    inside.transact(() => {
      text.delete(change.index, change.remove);
      text.insert(change.index, change.insert);
    });
  };
  const compositionStarted = () => {
    composing = true;
  };
  const compositionEnded = () => {
    composing = false;
    typed();
    for (const update of waiting.splice(0)) takeIn(update);
  };

  inside.on('update', fromInside);
  outside.on('update', fromOutside);
  text.observe(show);
  textarea.addEventListener('input', typed);
  textarea.addEventListener('compositionstart', compositionStarted);
  textarea.addEventListener('compositionend', compositionEnded);
  takeIn(Y.encodeStateAsUpdate(outside));

  return () => {
    textarea.removeEventListener('input', typed);
    textarea.removeEventListener('compositionstart', compositionStarted);
    textarea.removeEventListener('compositionend', compositionEnded);
    outside.off('update', fromOutside);
    inside.destroy();
  };
}
