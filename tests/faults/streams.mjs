// Copyright (c) Five Pointers
// MIT License (see LICENSE or https://opensource.org/license/mit)
// SPDX-License-Identifier: MIT
//
// Reads events as a browser does: asks again when a stream ends, from the last event on, after the time that it was told.
// Prints a line for each event (id and release) and each end, and when that was.
//
//   node streams.mjs http1|http2 PORT NAME CA
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';

const [protocol, port, name, authority] = process.argv.slice(2);
const options = { servername: name, ca: readFileSync(authority) };
const path = '/events';
let last;
let retry = 3000;

const tell = (...words) => console.log(Date.now() / 1000, ...words);

const read = (stream, closed) => {
  let text = '';
  let over = false;
  stream.setEncoding('utf8');
  stream.on('data', (part) => {
    const events = (text + part).split('\n\n');
    text = events.pop();
    for (const event of events) {
      const fields = Object.fromEntries(event.split('\n').map((line) => line.split(': ')));
      if (fields.retry) retry = Number(fields.retry);
      if (!fields.id) continue;
      last = fields.id;
      tell('event', last, fields.data);
    }
  });
  const end = (how) => {
    if (over) return;
    over = true;
    tell('end', how, 'retry', retry);
    closed();
    setTimeout(ask, retry);
  };
  stream.on('end', () => end('whole'));
  stream.on('error', () => end('broken'));
  stream.on('close', () => end('broken'));
};

const ask = () => {
  const resumed = last === undefined ? {} : { 'last-event-id': last };
  if (protocol === 'http2') {
    const session = http2.connect(`https://127.0.0.1:${port}`, options);
    read(session.request({ ':authority': name, ':path': path, ...resumed }), () => session.close());
    return;
  }
  const request = https.get({ host: '127.0.0.1', port, path, headers: { host: name, ...resumed }, ...options });
  request.on('response', (response) => read(response, () => request.destroy()));
};

ask();
