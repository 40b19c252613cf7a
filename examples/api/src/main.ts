import { describeError, log } from './common/log.js';
import { ConfigurationError, readDatabaseConfig, readHttpConfig } from './config.js';

function die(message: string, error: unknown): never {
  const fields = error instanceof ConfigurationError ? { problems: error.problems } : describeError(error);
  log.error(message, fields);
  process.exit(1);
}

process.on('uncaughtException', (error) => die('uncaught exception', error));
process.on('unhandledRejection', (error) => die('unhandled rejection', error));

try {
  const http = readHttpConfig();
  const database = readDatabaseConfig();
  // Loaded only now: a mistake in the environment is told at once, not after the framework.
  const { startServer } = await import('./server.js');
  await startServer(http, database);
} catch (error) {
  die('cannot start', error);
}
