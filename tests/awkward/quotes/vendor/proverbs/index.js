const { readFileSync } = require('node:fs');
const { join } = require('node:path');

// Read when it is asked for, so a build does not notice that it is missing.
exports.all = () => JSON.parse(readFileSync(join(__dirname, 'proverbs.json'), 'utf8'));
