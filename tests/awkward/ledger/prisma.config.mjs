import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import { defineConfig } from 'prisma/config';

// `prisma migrate` asks for types of PostgreSQL's own that the adapter refuses: "char" and name.
const TEXT = 25;
const REFUSED = [18, 19];

class Pool extends pg.Pool {
  async query(...words) {
    const result = await super.query(...words);
    for (const field of result.fields ?? []) if (REFUSED.includes(field.dataTypeID)) field.dataTypeID = TEXT;
    return result;
  }
}

export default defineConfig({
  schema: 'prisma/schema.prisma',
  engine: 'js',
  experimental: { adapter: true },
  adapter: async () => new PrismaPg(new Pool({ connectionString: process.env.DATABASE_URL })),
});
