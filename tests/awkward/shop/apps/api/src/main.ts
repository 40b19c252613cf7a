import { formatPrice } from '@acme/prices';
import { serve } from '@hono/node-server';
import { hash, verify } from '@node-rs/bcrypt';
import { Hono } from 'hono';

const app = new Hono();
const password = await hash('sesame', { cost: 4 });

app.get('/health', (c) => c.text('fine'));
app.get('/prices/:cents', (c) => c.json({ price: formatPrice(Number(c.req.param('cents'))) }));
app.post('/login', async (c) => {
  const { word } = await c.req.json();
  return (await verify(String(word), password)) ? c.json({ welcome: true }) : c.json({ welcome: false }, 401);
});

serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.PORT ?? 3000) });
