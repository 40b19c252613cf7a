import type { ConnectionOptions } from 'bullmq';

export const PARCELS = 'parcels';

export interface Parcel {
  order: string;
}

/** Where the queue is, by REDIS_URL. */
export function connection(): ConnectionOptions {
  return { url: process.env.REDIS_URL, maxRetriesPerRequest: null };
}
