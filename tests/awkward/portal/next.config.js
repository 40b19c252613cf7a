module.exports = {
  basePath: '/portal',
  output: 'standalone',
  outputFileTracingRoot: __dirname,
  turbopack: { root: __dirname },
};
