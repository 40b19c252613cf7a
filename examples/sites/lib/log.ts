const service = process.env.SERVICE_NAME ?? 'sites';

/** One JSON object per line on standard output, where the journal picks it up. */
export function log(level: 'info' | 'error', message: string, fields: Record<string, unknown> = {}): void {
  console.log(JSON.stringify({ time: new Date().toISOString(), level, service, message, ...fields }));
}
