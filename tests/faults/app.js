// Copyright (c) Five Pointers
// MIT License (see LICENSE or https://opensource.org/license/mit)
// SPDX-License-Identifier: MIT
//
// A service that says which release answered, and the checksum of what it was sent.
//
// X-Service-Time asks for a duration in milliseconds. With ABRUPT set, SIGTERM ends it as a crash would.
// /events is a stream: an event every 100 ms, numbered by the clock, from the one after Last-Event-ID.
'use strict';

const { createHash } = require('node:crypto');
const { createServer } = require('node:http');

const { ABRUPT, KEEP_ALIVE_TIMEOUT, PORT, RELEASE } = process.env;
const LONGEST_MS = 500;

const EVENT_MS = 100;
const streams = new Set();

const sendEvents = (response, last) => {
  let next = last === undefined ? Math.floor(Date.now() / EVENT_MS) : Number(last) + 1;
  const send = () => {
    for (; next * EVENT_MS <= Date.now(); next += 1) response.write(`id: ${next}\ndata: ${RELEASE}\n\n`);
  };
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  const timer = setInterval(send, EVENT_MS / 2);
  const end = () => {
    clearInterval(timer);
    response.end('retry: 100\n\n');
  };
  streams.add(end);
  response.on('close', () => {
    clearInterval(timer);
    streams.delete(end);
  });
  send();
};

const server = createServer((request, response) => {
  if (request.url === '/events') return sendEvents(response, request.headers['last-event-id']);
  const checksum = createHash('sha256');
  const milliseconds = Math.min(Number(request.headers['x-service-time'] ?? 0), LONGEST_MS);
  request.on('data', (chunk) => checksum.update(chunk));
  request.on('end', () => {
    setTimeout(() => {
      const sha256 = checksum.digest('hex');
      const body = JSON.stringify({ release: RELEASE, method: request.method, sha256 });
      response.writeHead(200, {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(body),
        'X-Release': RELEASE,
        'X-Body-SHA256': sha256,
        // Otherwise a busy connection outlives the closed server, and stopping takes for ever.
        ...(!server.listening && { Connection: 'close' }),
      });
      response.end(body);
    }, milliseconds);
  });
});
server.keepAliveTimeout = Number(KEEP_ALIVE_TIMEOUT);
server.listen(Number(PORT), '127.0.0.1');

process.on('SIGTERM', () => {
  if (ABRUPT) process.exit(1);
  server.close(() => process.exit(0));
  for (const end of streams) end();
});
