const fs = require("node:fs");
const version = require("./version.json");

fs.appendFileSync(`${process.env.STATE_DIRECTORY}/migrations`, `${version}\n`);
if (version === "unmigratable") throw new Error("column total exists already");
