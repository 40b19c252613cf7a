import { existsSync } from 'node:fs';
import { appendFile, readFile } from 'node:fs/promises';
import { Cron } from 'croner';
import Fastify from 'fastify';

const { PORT, SLOT_LIVE, STATE_DIRECTORY } = process.env;
const sent = `${STATE_DIRECTORY}/sent`;

// Each second somebody is reminded, by one process.
new Cron('* * * * * *', async () => {
  if (existsSync(SLOT_LIVE)) await appendFile(sent, `${Math.floor(Date.now() / 1000)} ${process.pid}\n`);
});

const app = Fastify();
app.get('/', () => 'reminder');
app.get('/sent', () => readFile(sent, 'utf8').catch(() => ''));
await app.listen({ host: '127.0.0.1', port: Number(PORT) });
