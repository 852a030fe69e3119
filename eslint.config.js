import tseslint from 'typescript-eslint';

/**
 * The arrows of the house: what each folder may import, and the vendor package that it alone may import.
 * Data flows one way (manifest → fleet → session → job → dfu → usb), so a folder imports only what stands
 * right of it, or core.
 */
const house = {
  core: [],
  config: ['core'],
  manifest: ['core'],
  keys: ['core'],
  usb: ['core'],
  store: ['core', 'journal', 'ops'], // the latter two are its own
  cloud: ['core'],
  vault: ['core'],
  audit: ['core'],
  report: ['core'],
  photon: ['core', 'keys'],
  dfu: ['core', 'usb/port.ts'],
  job: ['core', 'dfu', 'photon', 'keys', 'vault'],
  session: ['core', 'job', 'dfu', 'usb/port.ts'],
  fleet: ['core', 'manifest', 'session', 'usb/port.ts'],
  sim: ['core', 'photon', 'usb'],
};

const vendors = {
  usb: ['usb'],
  serialport: ['usb'],
  'node-forge': ['keys'],
  'p-queue': ['fleet', 'cloud'],
  'better-sqlite3': ['store'],
  yargs: ['cli'],
  'csv-parse': ['manifest'],
  yaml: ['config', 'job'],
  'binary-version-reader': ['job'],
  'age-encryption': ['vault'],
  '@scure/base': ['vault'],
  'cli-table3': ['report'],
  'log-update': ['report'],
  picocolors: ['report'],
  pino: ['report'],
};

const escape = text => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

function arrows(folder, allowed) {
  const open = [folder, ...(allowed ?? [])].map(name => escape(name) + (name.endsWith('.ts') ? '$' : '/')).join('|');
  const patterns = [];
  if (allowed) {
    patterns.push({
      regex: `^(\\.\\./)+(?!${open})[a-z]+/`,
      message: `${folder}/ may import ${allowed.length > 0 ? allowed.join(', ') : 'nothing of the house'} only: data flows one way, see "The house" in the README.`,
    });
  }
  for (const [name, owners] of Object.entries(vendors)) {
    if (owners.includes(folder)) continue;
    patterns.push({
      regex: `^${escape(name)}(/|$)`,
      message: `${name} is imported by ${owners.join(' and ')}/ alone: one seam for each outside thing.`,
    });
  }
  return {
    files: folder === 'cli' ? ['src/cli.ts', 'src/cli/**/*.ts'] : [`src/${folder}/**/*.ts`],
    rules: { '@typescript-eslint/no-restricted-imports': ['error', { patterns }] },
  };
}

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', '.cache/'] },
  {
    files: ['src/**/*.ts', 'test/**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      // A query's caller names the shape of its rows, once.
      '@typescript-eslint/no-unnecessary-type-parameters': 'off',
      'no-console': 'error',
    },
  },
  ...Object.entries(house).map(([folder, allowed]) => arrows(folder, allowed)),
  arrows('cli', null),
  {
    files: ['test/**/*.ts'],
    rules: {
      'no-console': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
);
