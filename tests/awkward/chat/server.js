import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';

const publisher = new Redis(process.env.REDIS_URL);
const http = createServer((request, response) => {
  response.statusCode = request.url === '/health' ? 200 : 404;
  response.end(publisher.status);
});
const io = new Server(http, { adapter: createAdapter(publisher, publisher.duplicate()) });

io.on('connection', (socket) => {
  socket.emit('welcome', hostname());
  socket.on('say', (text) => io.emit('said', { host: hostname(), text }));
});

process.on('SIGTERM', () => io.close(() => process.exit()));
http.listen(process.env.PORT, '127.0.0.1');
