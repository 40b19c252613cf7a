import * as decoding from 'lib0/decoding';
import * as encoding from 'lib0/encoding';
import { applyAwarenessUpdate, encodeAwarenessUpdate } from 'y-protocols/awareness';
import { readSyncMessage, writeSyncStep1, writeUpdate } from 'y-protocols/sync';

// What y-websocket puts before each message.
const SYNC = 0;
const AWARENESS = 1;
const QUERY_AWARENESS = 3;

function message(type, write) {
  const encoder = encoding.createEncoder();
  encoding.writeVarUint(encoder, type);
  write(encoder);
  return encoding.toUint8Array(encoder);
}

export function updateMessage(update) {
  return message(SYNC, (encoder) => writeUpdate(encoder, update));
}

/** What is known of these clients; one that is not in `states` is said to be gone. */
export function awarenessMessage(awareness, clients, states = awareness.states) {
  return message(AWARENESS, (encoder) =>
    encoding.writeVarUint8Array(encoder, encodeAwarenessUpdate(awareness, clients, states)),
  );
}

/** What a client hears first: our state vector, so that it sends what we lack, and who is here. */
export function greetings({ doc, awareness }) {
  const messages = [message(SYNC, (encoder) => writeSyncStep1(encoder, doc))];
  const clients = [...awareness.getStates().keys()];
  if (clients.length > 0) messages.push(awarenessMessage(awareness, clients));
  return messages;
}

/**
 * Applies what a client says; returns the answer, if there is one. Throws when it is no such message.
 *
 * @param origin the client's connection: what it changes carries it as origin
 */
export function handleMessage({ doc, awareness }, data, origin) {
  const decoder = decoding.createDecoder(data);
  const type = decoding.readVarUint(decoder);
  switch (type) {
    case SYNC: {
      const encoder = encoding.createEncoder();
      encoding.writeVarUint(encoder, SYNC);
      const empty = encoding.length(encoder);
      readSyncMessage(decoder, encoder, doc, origin, (error) => {
        throw error;
      });
      return encoding.length(encoder) > empty ? encoding.toUint8Array(encoder) : undefined;
    }
    case AWARENESS:
      applyAwarenessUpdate(awareness, decoding.readVarUint8Array(decoder), origin);
      return undefined;
    case QUERY_AWARENESS:
      return awarenessMessage(awareness, [...awareness.getStates().keys()]);
    default:
      throw new Error(`unknown message type ${type}`);
  }
}
