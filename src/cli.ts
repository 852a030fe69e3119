#!/usr/bin/env node
import type * as Early from './cli/early.ts';
import type * as Main from './cli/main.ts';
import type * as Version from './cli/version.ts';
import type * as Load from './load.ts';

// Nothing is imported: load.ts says why.
const { createRequire } = process.getBuiltinModule('node:module');
const { load } = createRequire(import.meta.url)('./bundle/load.cjs') as typeof Load;

const argv = process.argv.slice(2);
if (argv.length === 1 && argv[0] === '--version') {
  const { readVersion } = load<typeof Version>('version');
  process.stdout.write(`${readVersion()}\n`);
} else {
  if (!argv[0]?.startsWith('-')) load<typeof Early>('early').startEarly(argv);
  const { main } = load<typeof Main>('main');
  process.exitCode = await main(argv);
}
