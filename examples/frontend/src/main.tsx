import './style.css';

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { App } from './App.tsx';
import { loadConfig } from './config.ts';
import { reloadOnVanishedChunks } from './reload.ts';

reloadOnVanishedChunks();
const root = createRoot(document.getElementById('root')!);

try {
  loadConfig();
  root.render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
} catch (error) {
  // A sentence is better than an empty page.
  root.render(
    <main className="narrow">
      <h1>This page cannot be shown right now</h1>
      <p role="alert">{(error as Error).message}</p>
    </main>,
  );
}
