const version = require("./version.json");

if (version === "sick") {
  console.error("no connection to the queue");
  process.exit(1);
}
