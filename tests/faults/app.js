// Copyright (c) Five Pointers
// MIT License (see LICENSE or https://opensource.org/license/mit)
// SPDX-License-Identifier: MIT
//
// A service that says which release answered, and the checksum of what it was sent.
//
// X-Service-Time asks for a duration in milliseconds. With ABRUPT set, SIGTERM ends it as a crash would.
'use strict';

const { createHash } = require('node:crypto');
const { createServer } = require('node:http');

const { ABRUPT, KEEP_ALIVE_TIMEOUT, PORT, RELEASE } = process.env;
const LONGEST_MS = 500;

const server = createServer((request, response) => {
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
});
