import { resolve } from 'node:path';

/** Everything that is wrong with the environment, in one message. */
export class ConfigurationError extends Error {
  name = 'ConfigurationError';

  constructor(problems) {
    super(problems.join('; '));
    this.problems = problems;
  }
}

/** Settings from environment variables; throws a ConfigurationError that names all that is wrong. */
export function readConfig(environment = process.env) {
  const problems = [];
  function integer(name, fallback, min, max) {
    const raw = environment[name] || String(fallback);
    const value = Number(raw);
    if (!Number.isInteger(value) || value < min || value > max) {
      problems.push(`${name} is "${raw}": set it to a whole number from ${min} to ${max}`);
    }
    return value;
  }
  const allowedOrigins = (environment.ALLOWED_ORIGINS ?? '')
    .split(',')
    .map((origin) => origin.trim())
    .filter(Boolean);
  for (const origin of allowedOrigins) {
    if (!/^https?:\/\/(?:\*\.)?[a-z0-9.-]+(?::\d+)?$/.test(origin)) {
      problems.push(`ALLOWED_ORIGINS contains "${origin}": write each as https://host or https://*.host`);
    }
  }
  const config = {
    host: environment.HOST || '127.0.0.1',
    port: integer('PORT', 3003, 0, 65535),
    keepAliveTimeout: integer('KEEP_ALIVE_TIMEOUT', 75_000, 1, 3_600_000),
    allowedOrigins,
    // systemd separates several directories by colons; ours is the first.
    directory: resolve(environment.STATE_DIRECTORY?.split(':')[0] || 'state', 'documents'),
    // A client that sends a longer message is disconnected. 0 is any length.
    maxMessageBytes: integer('MAX_MESSAGE_BYTES', 1_048_576, 0, 2 ** 30),
    // Documents in memory. More than this many in use at once are refused.
    maxDocuments: integer('MAX_DOCUMENTS', 2_000, 1, 1_000_000),
    // When the process stops, so many sockets a second are sent away, or more where that takes too many seconds.
    handOffRate: integer('HAND_OFF_RATE', 30, 1, 100_000),
    handOffTimeout: integer('HAND_OFF_TIMEOUT', 20, 0, 3_600),
    // Where the process listens that takes over, if it is known.
    handOffPeerPort: integer('HAND_OFF_PEER_PORT', 0, 0, 65535),
    // Where metrics are sent, if anywhere.
    service: environment.SERVICE_NAME ?? 'collab',
    statsdHost: environment.STATSD_HOST ?? '',
    statsdPort: integer('STATSD_PORT', 8125, 1, 65535),
  };
  if (problems.length > 0) throw new ConfigurationError(problems);
  return config;
}
