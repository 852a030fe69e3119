import type { UsbPath } from '../core/usb-path.ts';
import type { ConfigKey, FlatValues } from './keys.ts';
import type { MaxFail } from './parsers.ts';

export type Source = 'flag' | 'environment' | 'file' | 'default';
export type Environment = Readonly<Record<string, string | undefined>>;

/** Every setting, of the right type and within its bounds. Paths are absolute. null: not set. */
export interface ConfigValues {
  readonly db: string;
  /** A job's name, or the absolute path of a YAML file. */
  readonly job: string;
  /** Seconds without a new device after which a run ends. */
  readonly wait: number;
  /** Devices worked on at once, and those on one hub. */
  readonly concurrency: number;
  readonly perHub: number;
  readonly maxFail: MaxFail | null;
  /** So many failed attempts quarantine a device; 0: never. */
  readonly quarantineAfter: number;
  /** `HOST:PORT`, none twice. */
  readonly racks: readonly string[];
  readonly insecureRack: boolean;
  /** Without a prototype, so that any name can be looked up in it. */
  readonly sockets: Readonly<Record<string, UsbPath>>;
  readonly cloud: {
    /** Without a slash at its end. */
    readonly url: string;
    readonly tokenFile: string | null;
    readonly timeoutMs: number;
    readonly concurrency: number;
    readonly insecure: boolean;
    readonly productId: string | null;
  };
  readonly server: {
    /** `keep`, `builtin`, or the absolute path of a public key. */
    readonly key: string;
    readonly host: string | null;
    readonly port: number | null;
  };
  /** Absolute paths of modules, for jobs that flash what is configured. */
  readonly firmware: {
    readonly systemPart1: string | null;
    readonly systemPart2: string | null;
    readonly userPart: string | null;
  };
  readonly vault: {
    readonly policy: 'local' | 'escrow' | 'none';
    /** age recipients, `age1…`, none twice. */
    readonly recipients: readonly string[];
    /** null: beside the database. */
    readonly identityFile: string | null;
  };
  readonly audit: {
    /** Where a copy of each checkpoint goes. */
    readonly checkpointDir: string | null;
    /** null: beside the database. */
    readonly signingKeyFile: string | null;
  };
  /** Who answers for what is done; null: the user of this process. */
  readonly operator: string | null;
  readonly log: string | null;
  readonly verbose: boolean;
}

/** The configuration: frozen through and through, and it knows where each value came from. */
export interface Config {
  readonly values: ConfigValues;
  /** The file that was read, absolute; null: there was none. */
  readonly file: string | null;
  /** Worth telling the user, and no reason to stop. */
  readonly warnings: readonly string[];
  sourceOf(key: ConfigKey): Source;
  /** For messages: `--wait`, `PHOTON_FLEET_WAIT`, `config.yaml:3` or `default`. */
  describeSource(key: ConfigKey): string;
}

/** A value and where it came from. */
export interface Origin {
  readonly source: Source;
  readonly description: string;
}

export function makeConfig(
  flat: FlatValues,
  origins: ReadonlyMap<ConfigKey, Origin>,
  file: string | null,
  warnings: readonly string[],
): Config {
  const values: ConfigValues = {
    db: flat.db,
    job: flat.job,
    wait: flat.wait,
    concurrency: flat.concurrency,
    perHub: flat.perHub,
    maxFail: flat.maxFail,
    quarantineAfter: flat.quarantineAfter,
    racks: flat.racks,
    insecureRack: flat.insecureRack,
    sockets: Object.assign(Object.create(null) as Record<string, UsbPath>, flat.sockets),
    cloud: {
      url: flat['cloud.url'],
      tokenFile: flat['cloud.tokenFile'],
      timeoutMs: flat['cloud.timeoutMs'],
      concurrency: flat['cloud.concurrency'],
      insecure: flat['cloud.insecure'],
      productId: flat['cloud.productId'],
    },
    server: { key: flat['server.key'], host: flat['server.host'], port: flat['server.port'] },
    firmware: {
      systemPart1: flat['firmware.systemPart1'],
      systemPart2: flat['firmware.systemPart2'],
      userPart: flat['firmware.userPart'],
    },
    vault: {
      policy: flat['vault.policy'],
      recipients: flat['vault.recipients'],
      identityFile: flat['vault.identityFile'],
    },
    audit: { checkpointDir: flat['audit.checkpointDir'], signingKeyFile: flat['audit.signingKeyFile'] },
    operator: flat.operator,
    log: flat.log,
    verbose: flat.verbose,
  };
  const origin = (key: ConfigKey): Origin => origins.get(key) ?? { source: 'default', description: 'default' };
  return deepFreeze({
    values,
    file,
    warnings: [...warnings],
    sourceOf: key => origin(key).source,
    describeSource: key => origin(key).description,
  });
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) {
    if (typeof inner === 'object' && inner !== null && !Object.isFrozen(inner)) deepFreeze(inner as object);
  }
  return Object.freeze(value);
}
