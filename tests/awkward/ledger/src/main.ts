import { PrismaPg } from '@prisma/adapter-pg';
import { PrismaClient } from '@prisma/client';
import Fastify from 'fastify';

const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL, max: 3 }) });
const app = Fastify();

app.get('/health', async () => ({ entries: await prisma.entry.count() }));

app.post<{ Body: { text: string; amount: number } }>('/entries', async (request, reply) => {
  const { text, amount } = request.body;
  return reply.code(201).send(await prisma.entry.create({ data: { text, amount } }));
});

app.get<{ Params: { id: string } }>('/entries/:id', async (request, reply) => {
  const entry = await prisma.entry.findUnique({ where: { id: Number(request.params.id) } });
  return entry ?? reply.code(404).send();
});

process.on('SIGTERM', () => app.close());
await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT ?? 3000) });
