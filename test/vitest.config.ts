import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/{unit,contract,fleet,cli}/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: '100%', // many tests wait for processes; one worker for two cores would leave one idle
    testTimeout: 60_000,
    hookTimeout: 60_000,
    server: { deps: { external: [/\/dist\//] } },
    reporters: ['default', './test/support/closing-line.ts'],
  },
});
