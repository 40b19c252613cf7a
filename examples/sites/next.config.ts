import type { NextConfig } from 'next';

const config: NextConfig = {
  // .next/standalone holds a server with just the packages that it needs.
  output: 'standalone',
  outputFileTracingRoot: import.meta.dirname,
  turbopack: { root: import.meta.dirname },
  // The proxy in front does this, for every service alike.
  compress: false,
  poweredByHeader: false,
  // No pictures are resized here, so the library for it stays at home.
  images: { unoptimized: true },
  outputFileTracingExcludes: { '*': ['node_modules/sharp/**', 'node_modules/@img/**'] },
};

export default config;
