// Loaded before the scan: every name leads to the address in FRONT_DOOR.
const dns = require('node:dns');

dns.lookup = (name, options, callback) => {
  const [{ all } = {}, done] = typeof options === 'function' ? [{}, options] : [options, callback];
  const address = process.env.FRONT_DOOR;
  process.nextTick(() => (all ? done(null, [{ address, family: 4 }]) : done(null, address, 4)));
};
