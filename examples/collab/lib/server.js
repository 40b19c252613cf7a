import { randomUUID } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createServer, STATUS_CODES } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

import { WebSocketServer } from 'ws';

import { Documents, TooManyDocuments } from './documents.js';
import { handOff } from './hand-off.js';
import { originAllowed, roomOf } from './handshake.js';
import { describeError, log } from './log.js';
import { greetings, handleMessage } from './protocol.js';

// A client that does not read: its backlog is not kept for ever.
const MAX_BACKLOG = 16 * 1024 * 1024;
const PING_EVERY = 30_000;
const LAST_GOODBYE = 2_000;

// Close code after which y-websocket reconnects.
const INVALID_MESSAGE = 1007;

/** The server: sockets on one side, documents on the other. */
export class CollabServer {
  #config;
  #documents;
  #http = createServer((request, response) => this.#answer(request, response));
  #sockets;
  #pings;
  #stopping = false;

  constructor(config) {
    this.#config = config;
    this.#documents = new Documents(config.directory, config.maxDocuments);
    const { maxMessageBytes: maxPayload } = config;
    this.#sockets = new WebSocketServer({ noServer: true, maxPayload, perMessageDeflate: false });
    this.#http.keepAliveTimeout = config.keepAliveTimeout;
    this.#http.on('upgrade', (request, socket, head) => void this.#upgrade(request, socket, head));
  }

  /** Listens; returns the port. */
  async start() {
    const { host, port } = this.#config;
    await new Promise((resolve, reject) => {
      this.#http.once('error', reject);
      this.#http.listen(port, host, resolve);
    });
    this.#pings = setInterval(() => this.#ping(), PING_EVERY);
    this.#publish();
    return this.#http.address().port;
  }

  /** Saves everything and sends the clients away, which takes as long as `handOff` says. */
  async stop() {
    this.#stopping = true;
    this.#http.close();
    await this.#documents.flush();
    const moved = await handOff(this.#documents.open, this.#config);
    log.info('sent clients away', moved);
    clearInterval(this.#pings);
    const end = performance.now() + LAST_GOODBYE;
    while (this.#sockets.clients.size > 0 && performance.now() < end) await sleep(10);
    for (const socket of this.#sockets.clients) socket.terminate();
    await this.#documents.close();
    this.#http.closeAllConnections();
  }

  #answer(request, response) {
    const [path] = request.url.split('?', 1);
    const { status, body } = path === '/health' ? this.#health() : { status: 404, body: { message: 'Not found' } };
    response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
    response.end(request.method === 'HEAD' ? undefined : JSON.stringify(body));
  }

  #health() {
    const reason = this.#stopping ? 'stopping' : this.#documents.failure;
    const facts = {
      documents: this.#documents.count,
      connections: this.#sockets.clients.size,
      uptime: Math.round(process.uptime()),
    };
    if (reason === undefined) return { status: 200, body: { status: 'ok', ...facts } };
    return { status: 503, body: { status: 'unavailable', reason, ...facts } };
  }

  async #upgrade(request, socket, head) {
    socket.on('error', () => socket.destroy());
    const requestId = request.headers['x-request-id']?.slice(0, 128) ?? randomUUID();
    const refuse = (status, reason) => {
      log.warn('handshake refused', { status, reason, path: request.url.split('?', 1)[0].slice(0, 200), requestId });
      const body = JSON.stringify({ message: reason });
      socket.end(
        `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n` +
          `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    };

    const { origin } = request.headers;
    if (!originAllowed(origin, this.#config.allowedOrigins)) {
      return refuse(403, `the origin ${JSON.stringify(origin.slice(0, 200))} is not allowed`);
    }
    const name = roomOf(request.url);
    if (name === undefined) return refuse(400, 'a document is named with 1 to 128 of A-Z, a-z, 0-9, ".", "_", "-"');
    if (this.#stopping) return refuse(503, 'stopping');

    let document;
    try {
      document = await this.#documents.acquire(name);
    } catch (error) {
      if (error instanceof TooManyDocuments) return refuse(503, error.message);
      log.error('document not loaded', { document: name, requestId, ...describeError(error) });
      return refuse(500, 'the document cannot be loaded');
    }
    if (socket.destroyed || this.#stopping) {
      this.#documents.release(name);
      return socket.destroyed ? undefined : refuse(503, 'stopping');
    }
    // Whatever becomes of the handshake, the TCP connection ends one day.
    socket.once('close', () => this.#documents.release(name));
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => this.#serve(webSocket, requestId, name, document));
  }

  #serve(socket, requestId, name, document) {
    const started = performance.now();
    socket.alive = true;
    const connection = {
      send: (message) => {
        if (socket.readyState !== socket.OPEN) return;
        if (socket.bufferedAmount > MAX_BACKLOG) return socket.terminate();
        socket.send(message);
      },
      close: (code, reason) => socket.close(code, reason),
    };
    document.connect(connection);
    socket.on('pong', () => (socket.alive = true));
    socket.on('error', () => {}); // 'close' follows, with a code that says it
    socket.on('close', (code) => {
      document.disconnect(connection);
      log.info('connection', { document: name, code, ms: Math.round(performance.now() - started), requestId });
    });
    socket.on('message', (data) => {
      try {
        const answer = handleMessage(document, data, connection);
        if (answer) connection.send(answer);
      } catch (error) {
        log.warn('message not understood', { document: name, requestId, reason: error.message });
        socket.close(INVALID_MESSAGE, 'message not understood');
      }
    });
    for (const message of greetings(document)) connection.send(message);
  }

  /** Sends the number of open sockets, where somebody takes it. A datagram that nobody takes is lost, and does no harm. */
  #publish() {
    const { statsdHost, statsdPort, service } = this.#config;
    if (!statsdHost) return;
    const metric = `OpenSockets:${this.#sockets.clients.size}|g|#Service:${service}`;
    const udp = createSocket('udp4').on('error', () => udp.close());
    udp.send(metric, statsdPort, statsdHost, () => udp.close());
  }

  #ping() {
    this.#publish();
    for (const socket of this.#sockets.clients) {
      if (!socket.alive) {
        socket.terminate();
        continue;
      }
      socket.alive = false;
      socket.ping();
    }
  }
}
