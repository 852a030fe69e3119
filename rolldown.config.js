import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

/*
 * Joins what `tsc` has made, and the packages that it uses, into a few files: a process that opens six hundred files
 * before it does anything starts three times as late. Each command stays a chunk of its own, loaded when it is asked for, and
 * each thread is one file. They are CommonJS, loaded by `src/load.ts`, since V8 keeps compiled code of scripts alone;
 * `compile.cjs` makes that code.
 *
 * Files lie two folders below the package, as those do that look for others from where they are: `../../migrations` and
 * `../bundle` mean the same.
 */
rmSync('dist/bundle', { recursive: true, force: true });
mkdirSync('dist/bundle');

const COMMANDS = { main: 'dist/cli/main.js', version: 'dist/cli/version.js', early: 'dist/cli/early.js' };
const THREADS = {
  'station-thread': 'dist/cli/station-thread.js',
  'chain-thread': 'dist/store/journal/chain-thread.js',
};

for (const name of Object.keys(THREADS)) {
  writeFileSync(`dist/bundle/${name}.js`, `require('./load.cjs').load('${name}');\n`);
}
// A thread that begins with an ES module takes a fifth longer to begin.
writeFileSync('dist/bundle/package.json', '{ "type": "commonjs" }\n');

/** What measures the width of a text is at the root of all help, and seldom used: its tables cost a third of the start. */
const widthsWhenWanted = {
  name: 'widths-when-wanted',
  transform(code, id) {
    if (!id.endsWith('/string-width/index.js')) return null;
    return code
      .replace(
        'segmenter = new Intl.Segmenter()',
        'segmenter = { segment: text => new Intl.Segmenter().segment(text) }',
      )
      .replace(/(\w+) = (\/\^\\p\{RGI_Emoji\}\$\/v)/, '$1 = { test: text => $2.test(text) }');
  },
};

const PACKAGE = /\/age-encryption\/dist\/\w+\.js$/;
const CALLER = /\/dist\/vault\/sealer\.js$/;
const ENGINE = {
  '@noble/ciphers/chacha.js': 'age-primitives',
  '@noble/hashes/hkdf.js': 'age-primitives',
  '@noble/hashes/hmac.js': 'age-primitives',
  '@noble/hashes/sha2.js': 'age-primitives',
  '@noble/hashes/utils.js': 'age-primitives',
  './recipients.js': 'age-recipients',
  './webauthn.js': 'age-recipients',
  'node:stream/web': 'age-streams',
};

/** Age's format by age's package, over Node's own cryptography: what it brings for browsers takes three times as long. */
const ageByNode = {
  name: 'age-by-node',
  resolveId(source, importer = '') {
    const ours = PACKAGE.test(importer) || CALLER.test(importer) ? ENGINE[source] : undefined;
    return ours && resolve(`dist/vault/${ours}.js`);
  },
  /** The package takes its streams from what is global. */
  transform(code, id) {
    if (!PACKAGE.test(id)) return null;
    const used = ['ReadableStream', 'TransformStream'].filter(name => code.includes(name));
    return used.length > 0 ? `import { ${used.join(', ')} } from 'node:stream/web';\n${code}` : null;
  },
};

const bundle = (input, output) => ({
  input,
  plugins: [widthsWhenWanted, ageByNode],
  // What brings machine code, looks for files beside its own, or is seldom needed and brings much.
  external: ['usb', 'serialport', 'better-sqlite3', 'pino', 'binary-version-reader'],
  platform: 'node',
  // One of these of which nothing is used is not loaded either.
  treeshake: { moduleSideEffects: [{ external: true, sideEffects: false }] },
  // In what yargs does with `extends` in a configuration, which nobody asks it to read.
  onLog: (level, log, tell) => log.code !== 'EMPTY_IMPORT_META' && tell(level, log),
  output: {
    dir: 'dist/bundle',
    format: 'cjs',
    // A script from V8's own code has forgotten how to import.
    dynamicImportInCjs: false,
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name]-[hash].cjs',
    // Names stay, for those who read a stack; what nobody runs is not scanned at every start.
    minify: { mangle: false, compress: false, codegen: true },
    comments: { legal: true, annotation: false, jsdoc: false },
    ...output,
  },
});

/** What a run loads in any case; a road to devices, and what draws tables, is loaded by those who want it. */
const FOLDERS = 'core|config|manifest|keys|store|cloud|vault|audit|photon|dfu|job|session|fleet';
const PACKAGES = 'yaml|zod|csv-parse|p-queue|p-timeout|eventemitter3|@scure|node-forge';
const ALL_ROADS = 'port-faults|setup-packet|usb-descriptors';
const USED_BY_RUN = new RegExp(
  `/dist/((${FOLDERS})/|cli/(?!version|examine)|usb/(${ALL_ROADS})\\.)|/node_modules/(${PACKAGES})/`,
);

export default [
  bundle(COMMANDS, {
    // Each file that has to be opened costs as much as ten kilobytes of it: what several commands use is in two.
    codeSplitting: {
      groups: [
        {
          name: 'base',
          test: /\/dist\/(core\/(errors|fault-codes|fail-points|threads)|cli\/exit-codes)\.js$|\/(ansi-styles|get-east-asian-width)\//,
          priority: 2,
        },
        { name: 'work', test: USED_BY_RUN, minShareCount: 2, priority: 1 },
      ],
    },
  }),
  bundle({ load: 'dist/load.js' }, { codeSplitting: false }),
  ...Object.entries(THREADS).map(([name, file]) => bundle({ [name]: file }, { codeSplitting: false })),
];
