const compression = require('compression');
const express = require('express');

const app = express();
app.use(compression());

app.get('/', (_request, response) => response.send('prices, as they come'));

// A price each quarter of a second, from the one after the last that the client has seen.
app.get('/prices', (request, response) => {
  let id = Number(request.get('Last-Event-ID') ?? 0);
  response.set('Content-Type', 'text/event-stream');
  const timer = setInterval(() => {
    id += 1;
    response.write(`id: ${id}\ndata: ${(100 + Math.sin(id)).toFixed(2)}\n\n`);
    response.flush();
  }, 250);
  response.on('close', () => clearInterval(timer));
});

app.listen(process.env.PORT ?? 3000, '127.0.0.1');
