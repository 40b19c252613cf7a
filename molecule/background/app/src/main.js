// A consumer of a queue. What it is built as says how it behaves: well, slow to end, never healthy, or crashing.
const fs = require("node:fs");
const version = require("./version.json");
const {HEALTH_FILE, SLOT_LIVE, STATE_DIRECTORY} = process.env;

const log = (message) => fs.appendFileSync(`${STATE_DIRECTORY}/log`, `${version} ${message}\n`);
const live = () => (fs.existsSync(SLOT_LIVE) ? "live" : "idle");

log(`started ${live()}`);
console.log(JSON.stringify({level: "info", message: `this is ${version}`}));
if (version === "crashing") {
  console.error("Error: no queue");
  process.exit(3);
}

if (HEALTH_FILE) setInterval(() => version !== "sick" && fs.writeFileSync(HEALTH_FILE, ""), 200);
setInterval(() => {}, 1000);
process.on("SIGUSR2", () => log(`is ${live()}`));
process.on("SIGTERM", () => {
  log("finishes its job");
  setTimeout(() => {
    log("ended");
    process.exit(0);
  }, version === "slow" ? 2000 : 100);
});
