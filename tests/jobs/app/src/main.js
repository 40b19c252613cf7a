// Writes down when it began and ended. Every fourth run takes longer than the time between two.
const fs = require("node:fs");

const log = `${process.env.STATE_DIRECTORY}/runs`;
const begun = Date.now();
const note = (what, at) => fs.appendFileSync(log, `${what} ${at} ${begun} ${process.env.EDITION}\n`);

note("began", begun);
setTimeout(() => note("ended", Date.now()), Math.random() < 0.25 ? 2500 : 300 * Math.random());
