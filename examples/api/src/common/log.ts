import type { LoggerService } from '@nestjs/common';

type Level = 'debug' | 'info' | 'warn' | 'error';
type Fields = Record<string, unknown>;

const service = process.env.SERVICE_NAME ?? 'api';

function write(level: Level, message: string, fields: Fields = {}): void {
  const line = JSON.stringify({ time: new Date().toISOString(), level, service, message, ...fields });
  process.stdout.write(`${line}\n`);
}

/** One JSON object per line on standard output, where the journal picks it up. */
export const log = {
  info: (message: string, fields?: Fields) => write('info', message, fields),
  warn: (message: string, fields?: Fields) => write('warn', message, fields),
  error: (message: string, fields?: Fields) => write('error', message, fields),
};

/**
 * The parts of an error that may be logged. A failed query also carries its SQL
 * and its parameters: they hold what users entered, and stay out.
 */
export function describeError(error: unknown): Fields {
  if (!(error instanceof Error)) return { error: String(error) };
  const code = (error as { code?: unknown }).code;
  return { error: error.name, reason: error.message, ...(code ? { code } : {}), stack: error.stack };
}

// What Nest says about itself while it starts: a hundred lines that nobody reads.
const QUIET = new Set(['InstanceLoader', 'NestApplication', 'NestFactory', 'RouterExplorer', 'RoutesResolver']);

/** Sends Nest's own messages the same way. */
export class NestLogger implements LoggerService {
  log(message: unknown, context?: string): void {
    if (!QUIET.has(context ?? '')) write('info', String(message), { context });
  }

  warn(message: unknown, context?: string): void {
    write('warn', String(message), { context });
  }

  error(message: unknown, stack?: string, context?: string): void {
    write('error', message instanceof Error ? message.message : String(message), {
      context,
      stack: message instanceof Error ? message.stack : stack,
    });
  }

  debug(): void {}
  verbose(): void {}
}
