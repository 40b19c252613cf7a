// An API without a framework. What it is built as says how it behaves: well, crashing, or never healthy.
const fs = require("node:fs");
const http = require("node:http");
const version = require("./version.json");

console.log(JSON.stringify({level: "info", message: `this is ${version}`, node: process.version}));
if (version === "crashing") {
  console.error("Error: no table for orders");
  process.exit(3);
}

http
  .createServer((request, response) => {
    const answer = {
      "/api/health": () => ({status: version === "sick" ? "no database" : "ok"}),
      "/api/version": () => ({version, pid: process.pid, node: process.version}),
      "/api/headers": () => request.headers,
      "/api/environment": () => ({...process.env}),
      "/api/migrations": () => fs.readFileSync(`${process.env.STATE_DIRECTORY}/migrations`, "utf8").trim().split("\n"),
    }[request.url];
    response.statusCode = !answer ? 404 : version === "sick" ? 503 : 200;
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(answer ? answer() : {message: "not found"}));
  })
  .listen(process.env.PORT, process.env.HOST);
