// Answers by host, streams, and keeps a cache where Next.js has its own.
const fs = require("node:fs");
const http = require("node:http");
const version = fs.readFileSync(".next/BUILD_ID", "utf8");

http
  .createServer((request, response) => {
    if (request.url === "/healthz") return response.end("ok");
    if (request.url === "/stream") {
      response.write("first\n");
      return setTimeout(() => response.end("second\n"), 1500);
    }
    if (request.url === "/cache") {
      fs.writeFileSync(".next/cache/page", version);
      return response.end(fs.readFileSync(".next/cache/page"));
    }
    if (request.url.startsWith("/_next/static/")) {
      response.statusCode = 404;
      return response.end("the application was asked");
    }
    response.end(JSON.stringify({version, host: request.headers.host, node: process.version, headers: request.headers}));
  })
  .listen(process.env.PORT, process.env.HOSTNAME);
