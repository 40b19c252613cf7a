import { existsSync } from 'node:fs';

/**
 * Whether this process is the one that is live. Before and after a switch, two
 * releases run side by side, and only one of them may do what is to be done
 * once. Where nobody says, as on a developer's machine, it is.
 */
export function isLive(environment: Record<string, string | undefined> = process.env): boolean {
  return !environment.SLOT_LIVE || existsSync(environment.SLOT_LIVE);
}

/**
 * Does some work again and again, only while this process is live: what `@Cron`
 * of @nestjs/schedule does, with `if (!isLive()) return;` as its first line.
 * Returns how to end it.
 */
export function everyWhileLive(milliseconds: number, work: () => void, environment = process.env): () => void {
  const timer = setInterval(() => isLive(environment) && work(), milliseconds);
  timer.unref();
  return () => clearInterval(timer);
}
