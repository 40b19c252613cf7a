const service = process.env.SERVICE_NAME ?? 'collab';

function write(level, message, fields) {
  const line = JSON.stringify({ time: new Date().toISOString(), level, service, message, ...fields });
  process.stdout.write(`${line}\n`);
}

/** One JSON object per line on standard output, where the journal picks it up. */
export const log = {
  info: (message, fields) => write('info', message, fields),
  warn: (message, fields) => write('warn', message, fields),
  error: (message, fields) => write('error', message, fields),
};

/** What to log of an error. */
export function describeError(error) {
  if (!(error instanceof Error)) return { error: String(error) };
  return { error: error.name, reason: error.message, code: error.code, stack: error.stack };
}
