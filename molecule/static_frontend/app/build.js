// What Vite leaves: a page that names hashed files. Each version has other names of the same length.
const crypto = require("node:crypto");
const fs = require("node:fs");

const version = process.env.VERSION;
const script = `console.log("this is ${version}");\n${"// padding so that it is worth compressing\n".repeat(60)}`;
const hash = crypto.createHash("sha256").update(script).digest("hex").slice(0, 8);
fs.mkdirSync("dist/assets", {recursive: true});
fs.writeFileSync(`dist/assets/index-${hash}.js`, script);
fs.writeFileSync(
  "dist/index.html",
  `<!doctype html><title>Shop</title><script src="/runtime-config.js"></script><script src="/assets/index-${hash}.js"></script>\n`,
);
fs.writeFileSync("dist/robots.txt", "User-agent: *\n");
fs.writeFileSync("dist/.hidden", "hidden\n");
