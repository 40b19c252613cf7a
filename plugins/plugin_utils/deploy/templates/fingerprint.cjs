// Prints {"schema": {"database.table": digest}} of the databases that a service uses, as few lines as a log takes. Runs in
// the environment of a release, with its own drivers: a host has none.
'use strict';
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const path = require('node:path');

const { databases, from } = require('./fingerprint.json');
const own = createRequire(path.join(process.cwd(), from, 'package.json'));
// A line of the journal holds 48 KiB.
const TABLES = 300;

function need(...names) {
  for (const name of names) {
    try {
      return own(name);
    } catch (error) {
      if (error.code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new Error(`the release has none of the packages ${names.join(', ')}`);
}

async function rowsOf({ prefix, engine, query }) {
  const [host, port, user, password, database, file] = ['HOST', 'PORT', 'USER', 'PASSWORD', 'NAME', 'CA_FILE'].map(
    (fact) => process.env[`${prefix}_${fact}`],
  );
  const ca = file && fs.readFileSync(file);
  try {
    const at = { host, port: Number(port), user, password, database };
    return await require(`./engine-${engine}.cjs`)(need, at, query, ca && { ca });
  } catch (error) {
    if (!error.message.startsWith('the release has none')) throw error;
    let prisma;
    try {
      prisma = new (need('@prisma/client').PrismaClient)();
    } catch {
      throw error;
    }
    return prisma.$queryRawUnsafe(query).finally(() => prisma.$disconnect());
  }
}

async function main() {
  const tables = new Map();
  for (const database of databases) {
    for (const { t, d } of await rowsOf(database)) {
      const name = `${database.name}.${t}`;
      tables.set(name, [...(tables.get(name) ?? []), String(d)]);
    }
  }
  const digests = [...tables].map(([name, lines]) => [
    name,
    createHash('sha256').update(lines.sort().join('\n')).digest('hex').slice(0, 16),
  ]);
  for (let start = 0; start === 0 || start < digests.length; start += TABLES) {
    const schema = Object.fromEntries(digests.slice(start, start + TABLES));
    process.stdout.write(`${JSON.stringify({ schema })}\n`);
  }
}

main().catch((error) => {
  process.stdout.write(`${JSON.stringify({ problem: error.message })}\n`);
  process.exitCode = 1;
});
