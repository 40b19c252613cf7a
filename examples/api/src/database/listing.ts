import type { MigrationInterface } from 'typeorm';

/**
 * A migration is expand-only, unless it says `readonly contract = true`: it
 * removes or narrows something that older code uses.
 */
export type SchemaMigration = MigrationInterface & { readonly contract?: boolean };

export interface ListedMigration {
  name: string;
  applied: boolean;
  contract: boolean;
  /** False for one that the database has and this code does not: whether it is a contract migration cannot be told. */
  known: boolean;
}

/** TypeORM's own rules. */
const nameOf = (migration: MigrationInterface) => migration.name ?? migration.constructor.name;
const timestampOf = (name: string) => Number(name.slice(-13));

/** Every migration of the code and of the database, in the order of their timestamps. */
export function listMigrations(
  known: SchemaMigration[],
  applied: { name: string; timestamp: number }[],
): ListedMigration[] {
  const found = new Map<string, ListedMigration & { timestamp: number }>();
  for (const migration of known) {
    const name = nameOf(migration);
    const contract = Boolean(migration.contract);
    found.set(name, { name, applied: false, contract, known: true, timestamp: timestampOf(name) });
  }
  for (const { name, timestamp } of applied) {
    found.set(name, { contract: false, known: false, timestamp, ...found.get(name), name, applied: true });
  }
  return [...found.values()]
    .sort((a, b) => a.timestamp - b.timestamp || (a.name < b.name ? -1 : 1))
    .map(({ name, applied, contract, known }) => ({ name, applied, contract, known }));
}
