// What `next build` leaves with standalone output, without Next.js.
const fs = require("node:fs");

const version = process.env.VERSION;
fs.mkdirSync(".next/standalone/.next", {recursive: true});
fs.mkdirSync(".next/standalone/node_modules/next", {recursive: true});
fs.mkdirSync(".next/static/chunks", {recursive: true});
fs.mkdirSync("public", {recursive: true});
fs.copyFileSync("server.js", ".next/standalone/server.js");
fs.writeFileSync(".next/standalone/package.json", "{}");
fs.writeFileSync(".next/standalone/node_modules/next/package.json", "{}");
fs.writeFileSync(".next/standalone/.next/BUILD_ID", version);
fs.writeFileSync(".next/BUILD_ID", version);
fs.writeFileSync(`.next/static/chunks/${version}.js`, `console.log("${version}");\n`);
fs.writeFileSync("public/robots.txt", "User-agent: *\n");
