import { log } from './log.ts';

/** Ends the process where it could only fail at every request. */
export function checkEnvironment(): void {
  const address = process.env.API_INTERNAL_URL ?? '';
  if (URL.canParse(address)) return;
  log('error', 'cannot start', {
    problems: [`API_INTERNAL_URL is "${address}": set it to the address of the API, as http://host:port`],
  });
  process.exit(1);
}
