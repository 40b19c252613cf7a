// Nothing about standalone output: the server needs node_modules beside it.
module.exports = { outputFileTracingRoot: __dirname, turbopack: { root: __dirname } };
