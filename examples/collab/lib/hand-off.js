import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

// y-websocket reconnects after this close code.
const SERVICE_RESTART = 1012;
// Of a large document so many leave at once: they all reconnect in the same instant.
const TOGETHER = 10;

/**
 * Sends the clients of these documents away: those of one document together, so
 * that people who edit together find each other again at once, and document after
 * document, so that whoever takes over is not asked for all of them in one instant.
 *
 * @returns {Promise<{documents: number, connections: number, ms: number}>} what was moved, and how long it took
 */
export async function handOff(documents, { handOffRate, handOffTimeout, handOffPeerPort }) {
  const started = performance.now();
  const connections = documents.reduce((sum, document) => sum + document.connections.size, 0);
  // With nobody to take over, to wait only makes it longer until somebody does.
  const paced = connections > 0 && !(handOffPeerPort && (await refused(handOffPeerPort)));
  const spacing = paced ? Math.min(1_000 / handOffRate, (handOffTimeout * 1_000) / connections) : 0;
  let due = performance.now();
  for (const document of shuffled(documents)) {
    // As they are at this moment: meanwhile some have left.
    const sockets = [...document.connections.keys()];
    for (let first = 0; first < sockets.length; first += TOGETHER) {
      const wait = due - performance.now();
      if (wait > 0) await sleep(wait);
      const group = sockets.slice(first, first + TOGETHER);
      for (const socket of group) socket.close(SERVICE_RESTART, 'service restart');
      due += group.length * spacing * (0.8 + 0.4 * Math.random());
    }
  }
  return { documents: documents.length, connections, ms: Math.round(performance.now() - started) };
}

function shuffled(items) {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1));
    [result[last], result[other]] = [result[other], result[last]];
  }
  return result;
}

/** Whether nobody listens on this port of the loopback. */
function refused(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(1_000, () => socket.destroy(new Error('no answer')));
    socket.once('connect', () => socket.destroy());
    socket.once('error', () => {});
    socket.once('close', (failed) => resolve(failed));
  });
}
