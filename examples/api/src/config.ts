import { readFileSync } from 'node:fs';

/** Everything that is wrong with the environment, in one message. */
export class ConfigurationError extends Error {
  override name = 'ConfigurationError';

  constructor(readonly problems: string[]) {
    super(problems.join('; '));
  }
}

export interface DatabaseConfig {
  host: string;
  port: number;
  name: string;
  user: string;
  password: string;
  /** Connections that this process may hold open. */
  poolSize: number;
  /** Certificate authorities in PEM form; the connection is encrypted when given. */
  ca?: string;
}

export interface HttpConfig {
  host: string;
  port: number;
  /** Milliseconds; longer than the idle time of the proxy in front. */
  keepAliveTimeout: number;
  jwtSecret: string;
  /** Names that no page may take, because another service answers there. */
  reservedSlugs: string[];
}

type Environment = Record<string, string | undefined>;

class Reader {
  private readonly problems: string[] = [];

  constructor(private readonly environment: Environment) {}

  text(name: string, fallback?: string): string {
    const value = this.environment[name] || fallback;
    if (value === undefined) this.problems.push(`${name} is not set: give it a value in the service's environment`);
    return value ?? '';
  }

  integer(name: string, fallback: number, min: number, max: number): number {
    const raw = this.environment[name] || String(fallback);
    const value = Number(raw);
    if (!Number.isInteger(value) || value < min || value > max) {
      this.problems.push(`${name} is "${raw}": set it to a whole number from ${min} to ${max}`);
    }
    return value;
  }

  /** Never puts the value itself into a message. */
  secret(name: string, minLength: number): string {
    const value = this.environment[name] ?? '';
    if (value === '') {
      this.problems.push(`${name} is not set: give it a random value of at least ${minLength} characters`);
    } else if (value.length < minLength) {
      this.problems.push(`${name} has ${value.length} characters: give it a random value of at least ${minLength}`);
    }
    return value;
  }

  file(name: string): string | undefined {
    const path = this.environment[name];
    if (!path) return undefined;
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      this.problems.push(`${name} is "${path}", which cannot be read: ${(error as Error).message}`);
      return undefined;
    }
  }

  finish(): void {
    if (this.problems.length > 0) throw new ConfigurationError(this.problems);
  }
}

export function readDatabaseConfig(environment: Environment = process.env): DatabaseConfig {
  const reader = new Reader(environment);
  const config: DatabaseConfig = {
    host: reader.text('DATABASE_HOST', '127.0.0.1'),
    port: reader.integer('DATABASE_PORT', 3306, 1, 65535),
    name: reader.text('DATABASE_NAME'),
    user: reader.text('DATABASE_USER'),
    password: reader.secret('DATABASE_PASSWORD', 1),
    poolSize: reader.integer('DATABASE_POOL_SIZE', 10, 1, 1000),
    ca: reader.file('DATABASE_CA_FILE'),
  };
  reader.finish();
  return config;
}

export function readHttpConfig(environment: Environment = process.env): HttpConfig {
  const reader = new Reader(environment);
  const config: HttpConfig = {
    host: reader.text('HOST', '127.0.0.1'),
    port: reader.integer('PORT', 3001, 0, 65535),
    keepAliveTimeout: reader.integer('KEEP_ALIVE_TIMEOUT', 75_000, 1, 3_600_000),
    jwtSecret: reader.secret('JWT_SECRET', 32),
    reservedSlugs: reader.text('RESERVED_SLUGS', 'api,ws,www').split(','),
  };
  reader.finish();
  return config;
}
