import { rmSync } from 'node:fs';

/*
 * Joins what `tsc` has made, and the packages that it uses, into a few files: a process that opens six hundred files
 * before it does anything starts three times as late. Each command stays a chunk of its own, loaded when it is asked for.
 * Files lie as deep below the package as those that they are made of, so that `../../migrations` means the same.
 */
rmSync('dist/bundle', { recursive: true, force: true });

export default {
  input: {
    cli: 'dist/cli.js',
    // Threads, where those who start them look for them.
    'bundle/worker': 'dist/store/worker.js',
    'bundle/journal/chain-thread': 'dist/store/journal/chain-thread.js',
    'bundle/sealing-thread': 'dist/vault/sealing-thread.js',
  },
  // What brings machine code, looks for files beside its own, or is seldom needed and brings much.
  external: ['usb', 'serialport', 'better-sqlite3', 'pino', 'binary-version-reader'],
  platform: 'node',
  output: {
    dir: 'dist',
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: 'bundle/[name]-[hash].js',
    // Names stay, for those who read a stack; what nobody runs is not scanned at every start.
    minify: { mangle: false, compress: false, codegen: true },
    comments: { legal: true, annotation: false, jsdoc: false },
  },
};
