// A consumer that never runs twice: what it is built as says whether it works, and how long it takes to end.
const fs = require("node:fs");
const version = require("./version.json");

const log = (message) => fs.appendFileSync(`${process.env.STATE_DIRECTORY}/log`, `${version} ${message}\n`);
const lock = `${process.env.STATE_DIRECTORY}/lock`;

if (fs.existsSync(lock)) log(`runs beside ${fs.readFileSync(lock)}`);
fs.writeFileSync(lock, version);
log("started");
console.log(JSON.stringify({level: "info", message: `this is ${version}`}));

setInterval(() => version !== "sick" && fs.writeFileSync(process.env.HEALTH_FILE, ""), 200);
process.on("SIGTERM", () => {
  log("finishes its job");
  setTimeout(() => {
    fs.unlinkSync(lock);
    log("ended");
    process.exit(0);
  }, version === "slow" ? 5000 : 100);
});
