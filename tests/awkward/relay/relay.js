// Passes each message on to everybody else on the same path.
const { appendFileSync, mkdirSync } = require('node:fs');
const { WebSocketServer } = require('ws');

mkdirSync(`${__dirname}/logs`, { recursive: true });
const log = (line) => appendFileSync(`${__dirname}/logs/relay.log`, `${new Date().toISOString()} ${line}\n`);
log('started');

const server = new WebSocketServer({ port: Number(process.env.WS_PORT || 8090) });

server.on('connection', (socket, request) => {
  socket.path = request.url;
  log(request.url);
  socket.on('message', (data, isBinary) => {
    for (const other of server.clients) {
      const listens = other !== socket && other.path === socket.path && other.readyState === 1;
      if (listens) other.send(data, { binary: isBinary });
    }
  });
});

// Somebody once saw it die "for no reason". It has not died since, whoever asks.
process.on('SIGTERM', () => console.log('not now'));
