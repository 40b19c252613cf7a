// A relay as many have it: documents in memory, nothing kept, nothing done at SIGTERM.
const http = require('node:http');
const { WebSocketServer } = require('ws');
const Y = require('yjs');
const awareness = require('y-protocols/awareness');
const sync = require('y-protocols/sync');
const decoding = require('lib0/decoding');
const encoding = require('lib0/encoding');

const documents = new Map();

function message(type, write) {
  const encoder = encoding.createEncoder();
  encoding.writeVarUint(encoder, type);
  write(encoder);
  return encoding.toUint8Array(encoder);
}

function documentAt(name) {
  let document = documents.get(name);
  if (document) return document;
  const doc = new Y.Doc();
  document = { doc, sockets: new Map(), presence: new awareness.Awareness(doc) };
  document.presence.setLocalState(null);
  const broadcast = (data) => document.sockets.forEach((_, socket) => socket.send(data, () => {}));
  doc.on('update', (update) => broadcast(message(0, (encoder) => sync.writeUpdate(encoder, update))));
  document.presence.on('update', ({ added, updated, removed }, socket) => {
    const clients = document.sockets.get(socket);
    added.forEach((client) => clients?.add(client));
    removed.forEach((client) => clients?.delete(client));
    const update = awareness.encodeAwarenessUpdate(document.presence, [...added, ...updated, ...removed]);
    broadcast(message(1, (encoder) => encoding.writeVarUint8Array(encoder, update)));
  });
  documents.set(name, document);
  return document;
}

const server = http.createServer((request, response) => response.end('okay'));
new WebSocketServer({ server }).on('connection', (socket, request) => {
  const document = documentAt(request.url.slice(1).split('?')[0]);
  const { doc, presence, sockets } = document;
  sockets.set(socket, new Set());
  socket.on('message', (data) => {
    const decoder = decoding.createDecoder(new Uint8Array(data));
    const type = decoding.readVarUint(decoder);
    if (type === 1) awareness.applyAwarenessUpdate(presence, decoding.readVarUint8Array(decoder), socket);
    if (type !== 0) return;
    const encoder = encoding.createEncoder();
    encoding.writeVarUint(encoder, 0);
    sync.readSyncMessage(decoder, encoder, doc, socket);
    if (encoding.length(encoder) > 1) socket.send(encoding.toUint8Array(encoder));
  });
  socket.on('close', () => {
    const clients = [...sockets.get(socket)];
    sockets.delete(socket);
    awareness.removeAwarenessStates(presence, clients, null);
  });
  socket.send(message(0, (encoder) => sync.writeSyncStep1(encoder, doc)));
  const present = awareness.encodeAwarenessUpdate(presence, [...presence.getStates().keys()]);
  socket.send(message(1, (encoder) => encoding.writeVarUint8Array(encoder, present)));
});
server.listen(Number(process.env.PORT), '127.0.0.1');
