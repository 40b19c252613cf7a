import { useEffect, useState } from 'react';
import { WebsocketProvider } from 'y-websocket';
import * as Y from 'yjs';

import { config } from '../config.ts';

export type Connection = 'connecting' | 'connected' | 'disconnected';

export interface SharedText {
  text: Y.Text;
  connection: Connection;
  /** The text of the others has arrived. */
  synced: boolean;
  /** How many have this room open, ourselves included. */
  people: number;
}

/** The text that everybody in this room writes; undefined for a moment after the room changes. */
export function useSharedText(room: string): SharedText | undefined {
  const [shared, setShared] = useState<SharedText>();

  useEffect(() => {
    const doc = new Y.Doc();
    const provider = new WebsocketProvider(config.COLLAB_URL, room, doc, { maxBackoffTime: 5_000 });
    const { awareness } = provider;
    awareness.setLocalStateField('here', true);
    const update = (change: Partial<SharedText>) => setShared((before) => before && { ...before, ...change });

    setShared({ text: doc.getText('text'), connection: 'connecting', synced: false, people: 1 });
    provider.on('status', ({ status }) => update({ connection: status }));
    provider.on('sync', (synced) => synced && update({ synced }));
    awareness.on('change', () => update({ people: Math.max(1, awareness.getStates().size) }));

    return () => {
      provider.destroy();
      doc.destroy();
      setShared(undefined);
    };
  }, [room]);

  return shared;
}
