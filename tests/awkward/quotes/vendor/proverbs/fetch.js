// Stands for packages that download their data, a browser or an engine when they
// are installed. Without this script having run, the package cannot work.
const { writeFileSync } = require('node:fs');
const { join } = require('node:path');

const proverbs = ['Measure twice, cut once.', 'The shoemaker goes barefoot.', 'A stitch in time saves nine.'];
writeFileSync(join(__dirname, 'proverbs.json'), JSON.stringify(proverbs));
