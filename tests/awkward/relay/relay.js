// Passes each message on to everybody else on the same path.
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ port: Number(process.env.WS_PORT || 8090) });

server.on('connection', (socket, request) => {
  socket.path = request.url;
  socket.on('message', (data, isBinary) => {
    for (const other of server.clients) {
      const listens = other !== socket && other.path === socket.path && other.readyState === 1;
      if (listens) other.send(data, { binary: isBinary });
    }
  });
});

// Somebody once saw it die "for no reason". It has not died since, whoever asks.
process.on('SIGTERM', () => console.log('not now'));
