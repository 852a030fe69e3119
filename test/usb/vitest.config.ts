import { defineConfig } from 'vitest/config';

/** For the guest: one process, one file after the other, since there is one bus. */
export default defineConfig({
  test: {
    root: new URL('../..', import.meta.url).pathname,
    include: ['test/usb/**/*.test.ts'],
    pool: 'forks',
    fileParallelism: false,
    isolate: false,
    testTimeout: 300_000,
    hookTimeout: 300_000,
    server: { deps: { external: [/\/dist\//] } },
    reporters: ['./test/usb/check-lines.ts', './test/support/closing-line.ts'],
  },
});
