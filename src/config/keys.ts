import { z } from 'zod';
import { parseCloudUrl, parseMaxFail, parseProductId, parseRack, parseRecipient } from './parsers.ts';
import { line, readBy, sockets, wholeNumber } from './schemas.ts';
import { parseServerHost } from '../core/hosts.ts';

/** What is known of one key. */
export interface KeySpec<S extends z.ZodType = z.ZodType> {
  /** Of the value as YAML gives it; texts of the environment and of flags are turned into that form first. */
  readonly schema: S;
  readonly fallback: z.output<S>;
  /** Ends the sentence "must be …". */
  readonly expects: string;
  /** How a text is read. */
  readonly reading: 'text' | 'number' | 'boolean' | 'list';
  /** Whether a value is a path: a relative one counts from the file's folder if the file has it, else from here. */
  readonly isPath?: (value: string) => boolean;
  /** Neither the environment nor a flag can set it. */
  readonly fileOnly?: true;
  /** Its value may hold a password or a token by mistake: no message repeats it. */
  readonly unshown?: true;
}

/** Keeps each schema's own type, and checks the fallback against it. */
const key = <S extends z.ZodType>(spec: KeySpec<S>): KeySpec<S> => spec;

const anyPath = (): boolean => true;
const yesOrNo = { schema: z.boolean(), fallback: false, expects: 'true or false', reading: 'boolean' } as const;

/** Every key there is, in the order of config.example.yaml. */
export const KEYS = {
  db: key({ schema: line, fallback: './photon-fleet.db', expects: 'a path', reading: 'text', isPath: anyPath }),
  job: key({
    schema: line,
    fallback: 'rekey',
    expects: 'the name of a job or the path of a YAML file',
    reading: 'text',
    isPath: value => /[/\\]|\.ya?ml$/i.test(value),
  }),
  wait: key({
    schema: z.number().min(0).max(2_000_000), // setTimeout takes no more than 2^31 ms
    fallback: 30,
    expects: 'a number of seconds from 0 to 2000000',
    reading: 'number',
  }),
  concurrency: key({
    schema: wholeNumber(1, 1024),
    fallback: 128,
    expects: 'a whole number from 1 to 1024',
    reading: 'number',
  }),
  perHub: key({
    schema: wholeNumber(1, 255),
    fallback: 64,
    expects: 'a whole number from 1 to 255',
    reading: 'number',
  }),
  maxFail: key({
    schema: readBy(parseMaxFail).nullable(),
    fallback: null,
    expects: 'a count of devices such as 5, or a part of them such as 10%',
    reading: 'text',
  }),
  quarantineAfter: key({
    schema: wholeNumber(0, 1000),
    fallback: 3,
    expects: 'a whole number of failed attempts from 1 on, or 0 for never',
    reading: 'number',
  }),
  racks: key({
    schema: z.array(readBy(parseRack)).transform(racks => [...new Set(racks)]),
    fallback: [],
    expects: 'a list of HOST:PORT',
    reading: 'list',
  }),
  insecureRack: key(yesOrNo),
  sockets: key({
    schema: sockets,
    fallback: {},
    expects: 'a map from names to USB paths, such as {A-04: 3-1.4}',
    reading: 'text',
    fileOnly: true,
  }),
  'cloud.url': key({
    schema: readBy(parseCloudUrl),
    fallback: 'https://api.particle.io',
    expects: 'an http:// or https:// URL without user name, password, query or fragment',
    reading: 'text',
    unshown: true,
  }),
  'cloud.tokenFile': key({
    schema: line.nullable(),
    fallback: null,
    expects: 'the path of a file',
    reading: 'text',
    isPath: anyPath,
    unshown: true,
  }),
  'cloud.timeoutMs': key({
    schema: wholeNumber(100, 120_000),
    fallback: 10_000,
    expects: 'a whole number of milliseconds from 100 to 120000',
    reading: 'number',
  }),
  'cloud.concurrency': key({
    schema: wholeNumber(1, 64),
    fallback: 8,
    expects: 'a whole number from 1 to 64',
    reading: 'number',
  }),
  'cloud.insecure': key(yesOrNo),
  'cloud.productId': key({
    schema: readBy(parseProductId).nullable(),
    fallback: null,
    expects: "a product's number or slug",
    reading: 'text',
  }),
  'server.key': key({
    schema: line,
    fallback: 'keep',
    expects: '`keep`, `builtin` or the path of a public key',
    reading: 'text',
    isPath: value => value !== 'keep' && value !== 'builtin',
  }),
  'server.host': key({
    schema: readBy(parseServerHost).nullable(),
    fallback: null,
    expects: 'an IPv4 address, or a domain of at most 63 characters',
    reading: 'text',
  }),
  'server.port': key({
    schema: wholeNumber(1, 65_534).nullable(), // 0 and 65535 mean "the default" to the firmware
    fallback: null,
    expects: 'a whole number from 1 to 65534',
    reading: 'number',
  }),
  'firmware.systemPart1': key({
    schema: line.nullable(),
    fallback: null,
    expects: 'the path of a firmware module',
    reading: 'text',
    isPath: anyPath,
  }),
  'firmware.systemPart2': key({
    schema: line.nullable(),
    fallback: null,
    expects: 'the path of a firmware module',
    reading: 'text',
    isPath: anyPath,
  }),
  'firmware.userPart': key({
    schema: line.nullable(),
    fallback: null,
    expects: 'the path of a firmware module',
    reading: 'text',
    isPath: anyPath,
  }),
  'vault.policy': key({
    schema: z.enum(['local', 'escrow', 'none']),
    fallback: 'local',
    expects: '`local`, `escrow` or `none`',
    reading: 'text',
  }),
  'vault.recipients': key({
    schema: z.array(readBy(parseRecipient)).transform(recipients => [...new Set(recipients)]),
    fallback: [],
    expects: 'a list of age recipients (age1…)',
    reading: 'list',
    unshown: true,
  }),
  'vault.identityFile': key({
    schema: line.nullable(),
    fallback: null,
    expects: 'the path of a file',
    reading: 'text',
    isPath: anyPath,
  }),
  'audit.checkpointDir': key({
    schema: line.nullable(),
    fallback: null,
    expects: 'the path of a folder',
    reading: 'text',
    isPath: anyPath,
  }),
  'audit.signingKeyFile': key({
    schema: line.nullable(),
    fallback: null,
    expects: 'the path of a file',
    reading: 'text',
    isPath: anyPath,
  }),
  operator: key({
    schema: line.max(128).nullable(),
    fallback: null,
    expects: 'a name of one line, of at most 128 characters',
    reading: 'text',
  }),
  log: key({
    schema: line.nullable(),
    fallback: null,
    expects: 'the path of a file',
    reading: 'text',
    isPath: anyPath,
  }),
  verbose: key(yesOrNo),
} as const;

export type ConfigKey = keyof typeof KEYS;
export const CONFIG_KEYS = Object.keys(KEYS) as ConfigKey[];
export type FlatValues = { [K in ConfigKey]: z.output<(typeof KEYS)[K]['schema']> };

export const ENV_PREFIX = 'PHOTON_FLEET_';

/** `cloud.tokenFile` → `PHOTON_FLEET_CLOUD_TOKEN_FILE`. */
export function envName(name: ConfigKey): string {
  return ENV_PREFIX + words(name).join('_').toUpperCase();
}

/** `maxFail` → `--max-fail`; a rack is named once for each time that its flag is given. */
export function flagName(name: ConfigKey): string {
  return name === 'racks' ? '--rack' : `--${words(name).join('-')}`;
}

function words(name: string): string[] {
  return name.replace(/[A-Z]/g, capital => `.${capital.toLowerCase()}`).split('.');
}
