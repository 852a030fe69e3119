import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/{unit,contract,fleet,cli}/**/*.test.ts'],
    pool: 'forks',
    isolate: false, // the program is loaded once in each process, not for each file: a fifth of the time
    maxWorkers: availableParallelism() + 1, // many tests wait for processes and for time-outs, and would leave a processor idle
    testTimeout: 300_000, // none takes a tenth of it here; a machine with other work may be that slow
    hookTimeout: 300_000,
    expect: { poll: { timeout: 240_000 } },
    server: { deps: { external: [/\/dist\//] } },
    reporters: ['default', './test/support/closing-line.ts'],
  },
});
