import Router from '@koa/router';
import argon2 from 'argon2';
import Koa from 'koa';

const app = new Koa();
const router = new Router();
const salt = Buffer.from('the same salt for all');

router.get('/health', (ctx) => {
  ctx.body = 'ok';
});

// Who votes is not kept, only the hash of a name, so that nobody votes twice.
router.get('/ballots/:name', async (ctx) => {
  const hash = await argon2.hash(ctx.params.name, { salt, timeCost: 2, memoryCost: 1024, raw: true });
  ctx.body = { ballot: hash.toString('hex') };
});

app.use(router.routes());
app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1');
