#!/usr/bin/env node
const argv = process.argv.slice(2);
if (argv.length === 1 && argv[0] === '--version') {
  const { readVersion } = await import('./cli/version.ts');
  process.stdout.write(`${readVersion()}\n`);
} else {
  const { main } = await import('./cli/main.ts');
  process.exitCode = await main(argv);
}
