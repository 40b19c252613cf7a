import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

/**
 * The addresses of the other services come from /runtime-config.js, which is
 * written where the build is deployed: one build serves every environment. While
 * developing, this stands in for it, with the same names from the environment.
 */
function runtimeConfig(): Plugin {
  const { API_URL = 'http://localhost:3001', COLLAB_URL = 'ws://localhost:3003', BASE_DOMAIN = 'localhost:3002' } =
    process.env;
  const script = `window.__CONFIG__ = ${JSON.stringify({ API_URL, COLLAB_URL, BASE_DOMAIN })};`;
  return {
    name: 'runtime-config',
    configureServer({ middlewares }) {
      middlewares.use('/runtime-config.js', (_, response) => {
        response.setHeader('Content-Type', 'text/javascript').end(script);
      });
    },
  };
}

export default defineConfig({
  plugins: [react(), runtimeConfig()],
  build: {
    // A picture inside a stylesheet or script would need a looser security policy.
    assetsInlineLimit: 0,
  },
});
