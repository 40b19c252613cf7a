import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import sharp from 'sharp';

const colours = ['#c2410c', '#4d7c0f', '#0e7490', '#7e22ce'];

const draw = (name: string, size: number) => {
  const background = colours[[...name].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % colours.length];
  return sharp({ create: { width: size, height: size, channels: 3, background } }).png().toBuffer();
};

const app = new Hono();
app.get('/', (c) => c.text('avatars'));
app.get('/:name', async (c) => c.body(new Uint8Array(await draw(c.req.param('name'), 64)), 200, { 'Content-Type': 'image/png' }));
app.get('/:name/about', async (c) => {
  const { format, width, height } = await sharp(await draw(c.req.param('name'), 64)).metadata();
  return c.json({ format, width, height });
});

serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.PORT ?? 3000) });
