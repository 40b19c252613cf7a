import { ConfigurationError, readConfig } from './lib/config.js';
import { describeError, log } from './lib/log.js';
import { CollabServer } from './lib/server.js';

function die(message, error) {
  const fields = error instanceof ConfigurationError ? { problems: error.problems } : describeError(error);
  log.error(message, fields);
  process.exit(1);
}

process.on('uncaughtException', (error) => die('uncaught exception', error));
process.on('unhandledRejection', (error) => die('unhandled rejection', error));

try {
  const config = readConfig();
  const server = new CollabServer(config);
  const port = await server.start();
  log.info('listening', { host: config.host, port, directory: config.directory, ms: Math.round(performance.now()) });

  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, async () => {
      if (stopping) return;
      stopping = true;
      log.info('stopping', { signal });
      await server.stop().catch((error) => die('not everything could be saved', error));
      log.info('stopped');
      process.exit(0);
    });
  }
} catch (error) {
  die('cannot start', error);
}
