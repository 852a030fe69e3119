#!/usr/bin/env node
import type * as Main from './cli/main.ts';
import type * as Version from './cli/version.ts';
import { load } from './load.ts';

const argv = process.argv.slice(2);
if (argv.length === 1 && argv[0] === '--version') {
  const { readVersion } = load<typeof Version>('version');
  process.stdout.write(`${readVersion()}\n`);
} else {
  const { main } = load<typeof Main>('main');
  process.exitCode = await main(argv);
}
