// Bundles src into build/, with the API's address written into the script.
const { copyFileSync, mkdirSync, rmSync } = require('node:fs');
const { buildSync } = require('esbuild');

const { REACT_APP_API } = process.env;
if (!REACT_APP_API) throw new Error('REACT_APP_API is not set: it goes into the script when it is built');

rmSync('build', { recursive: true, force: true });
mkdirSync('build');
buildSync({
  entryPoints: ['src/board.js'],
  outfile: 'build/board.js',
  bundle: true,
  minify: true,
  define: { 'process.env.REACT_APP_API': JSON.stringify(REACT_APP_API) },
});
copyFileSync('src/index.html', 'build/index.html');
