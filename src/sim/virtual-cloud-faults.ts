import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';

/** What a request is about, for faults that strike one kind alone. */
export const REQUEST_KINDS = ['keys', 'claims', 'products', 'names', 'devices'] as const;
export type RequestKind = (typeof REQUEST_KINDS)[number];

/**
 * How the virtual cloud misbehaves. `device`: towards that device alone; null: towards everybody. `about`: with such requests
 * alone; left out: with all.
 */
export type CloudFault = { readonly about?: RequestKind } & (
  | OneFault
  | HandshakeFault
  /** From 1 to 100. */
  | { readonly device: DeviceId | null; readonly kind: 'flaky'; readonly percent: number }
);

/** What a device meets that shakes hands over TCP. */
export interface HandshakeFault {
  readonly device: DeviceId | null;
  readonly kind: (typeof HANDSHAKE_FAULTS)[number];
}

const HANDSHAKE_FAULTS = [
  'handshake-silent',
  'handshake-short',
  'handshake-long',
  'handshake-close',
  'handshake-bad-signature',
] as const;

/** What one request meets. */
export type OneFault = { readonly device: DeviceId | null } & (
  | { readonly kind: 'down' | 'hang' | 'lost' | 'reset' | 'refuse-after-store' | 'redirect' }
  | { readonly kind: 'html' | 'empty'; readonly status: number }
  | { readonly kind: 'late' | 'apply-late' | 'slow'; readonly ms: number }
  /** `times`: the first so many requests; null: all of them. */
  | { readonly kind: 'status'; readonly status: number; readonly times: number | null }
  | { readonly kind: 'retry-after' | 'retry-after-date'; readonly seconds: number; readonly times: number | null }
);

export const CLOUD_FAULTS_HELP =
  'down · hang · status:CODE[:N] · html:CODE · empty:CODE · late:MS · apply-late:MS · slow:MS · lost · reset · refuse-after-store · ' +
  'retry-after:SECONDS[:N] · retry-after-date:SECONDS[:N] · redirect · flaky:PERCENT · handshake-silent · handshake-short · handshake-long · handshake-close · ' +
  'handshake-bad-signature · device:ID:FAULT · keys|claims|products|names|devices:FAULT';

/**
 * A fault as it is written on the command line:
 * - `down`: every connection is reset at once
 * - `hang`: takes requests and never answers
 * - `status:CODE[:N]`: answers CODE, to all requests or to the first N
 * - `html:CODE`: the same with a page of HTML, as a proxy does
 * - `empty:CODE`: the same without a body; with a 2xx it has taken the key
 * - `late:MS`: takes the key and answers after MS milliseconds
 * - `apply-late:MS`: takes the key after MS milliseconds, though nobody may wait for the answer any more
 * - `slow:MS`: takes the key, and its answer trickles for MS milliseconds
 * - `lost`: takes the key and resets the connection
 * - `reset`: takes the key and resets the connection half-way through the answer
 * - `refuse-after-store`: takes the key and answers 400
 * - `retry-after:SECONDS[:N]`, `retry-after-date:SECONDS[:N]`: answers 429 with Retry-After, as seconds or as a date
 * - `redirect`: answers 302 to elsewhere
 * - `flaky:PERCENT`: so many requests fail, evenly spread: with 503, after the key was taken, with 429, and so on in turn
 * - `handshake-silent`: takes connections for the handshake and says nothing; for one device, nothing to its 256 bytes
 * - `handshake-short`, `handshake-long`: answers half of the 384 bytes and closes, or one byte too many
 * - `handshake-close`: closes without a word after the 256 bytes, as on a device whose key it does not know
 * - `handshake-bad-signature`: its answer is signed by another server
 * - `device:ID:FAULT`: any of these, for one device only
 * - `keys:FAULT`, `claims:FAULT`, `products:FAULT`, `names:FAULT`, `devices:FAULT`: any of these, for such requests only
 * @throws Fault USAGE
 */
export function parseCloudFault(text: string): CloudFault {
  const [first = '', ...rest] = text.trim().split(':');
  const about = REQUEST_KINDS.find(kind => kind === first);
  const words = about === undefined ? [first, ...rest] : rest;
  const forDevice = words[0] === 'device';
  const device = forDevice ? parseDeviceId(words[1] ?? '') : null;
  const fault = forDevice && device === null ? null : read(words.slice(forDevice ? 2 : 0), device);
  if (fault === null) {
    throw new Fault('USAGE', `${JSON.stringify(text.slice(0, 80))} is no fault of the virtual cloud`, {
      hint: `it knows: ${CLOUD_FAULTS_HELP}`,
    });
  }
  return about === undefined ? fault : { ...fault, about };
}

function read(words: readonly string[], device: DeviceId | null): CloudFault | null {
  const [kind, first, second] = words;
  const arity = words.length - 1;
  switch (kind) {
    case 'down':
    case 'hang':
    case 'lost':
    case 'reset':
    case 'refuse-after-store':
    case 'redirect':
      return arity === 0 ? { kind, device } : null;
    case 'html':
    case 'empty': {
      const status = whole(first, 200, 599);
      return arity === 1 && status !== null ? { kind, device, status } : null;
    }
    case 'late':
    case 'apply-late':
    case 'slow': {
      const ms = whole(first, 0, 600_000);
      return arity === 1 && ms !== null ? { kind, device, ms } : null;
    }
    case 'status':
    case 'retry-after':
    case 'retry-after-date': {
      const value = kind === 'status' ? whole(first, 200, 599) : whole(first, 0, 1_000_000);
      const times = second === undefined ? null : whole(second, 0, 1_000_000);
      if (arity < 1 || arity > 2 || value === null || (second !== undefined && times === null)) return null;
      return kind === 'status' ? { kind, device, status: value, times } : { kind, device, seconds: value, times };
    }
    case 'flaky': {
      const percent = whole(first, 1, 100);
      return arity === 1 && percent !== null ? { kind, device, percent } : null;
    }
    default: {
      const handshake = HANDSHAKE_FAULTS.find(known => known === kind);
      return handshake && arity === 0 ? { kind: handshake, device } : null;
    }
  }
}

function whole(text: string | undefined, min: number, max: number): number | null {
  if (text === undefined || !/^\d{1,7}$/.test(text)) return null;
  const value = Number(text);
  return value >= min && value <= max ? value : null;
}

/** What a flaky cloud does in turn. */
const FLAKY_TURNS: readonly OneFault[] = [
  { kind: 'status', device: null, status: 503, times: null },
  { kind: 'lost', device: null },
  { kind: 'retry-after', device: null, seconds: 1, times: null },
];

interface InForce {
  readonly fault: CloudFault;
  /** How often it may still be met. */
  left: number;
  /** Of a flaky one: hundredths of the next fault that have come together, and how many there were. */
  due: number;
  turns: number;
}

/** The faults in force. The first that fits a request is taken; those with a number of times are used up. */
export class FaultPlan {
  readonly #faults: InForce[];

  constructor(faults: readonly CloudFault[]) {
    this.#faults = faults.map(fault => ({
      fault,
      left: 'times' in fault && fault.times !== null ? fault.times : Infinity,
      due: 0,
      turns: 0,
    }));
  }

  /** @param device the one that the request is about; null where it is about none */
  take(device: DeviceId | null, about: RequestKind | null = null): OneFault | null {
    for (const entry of this.#faults) {
      const { fault } = entry;
      if (isOfHandshake(fault)) continue;
      if (entry.left === 0 || (fault.device !== null && fault.device !== device)) continue;
      if (fault.about !== undefined && fault.about !== about) continue;
      if (fault.kind !== 'flaky') {
        entry.left -= 1;
        return fault;
      }
      entry.due += fault.percent;
      if (entry.due < 100) continue;
      entry.due -= 100;
      entry.turns += 1;
      return FLAKY_TURNS[(entry.turns - 1) % FLAKY_TURNS.length] ?? null;
    }
    return null;
  }

  /** What a connection for the handshake meets before anybody knows whose it is. */
  greeting(): HandshakeFault | null {
    return this.takeHandshake(null);
  }

  /** @param device the one that said who it is; null where it did not, or could not be understood */
  takeHandshake(device: DeviceId | null): HandshakeFault | null {
    for (const { fault } of this.#faults) {
      if (isOfHandshake(fault) && (fault.device === null || fault.device === device)) return fault;
    }
    return null;
  }

  /** No connection is taken at all. */
  get isDown(): boolean {
    return this.#faults.some(({ fault }) => fault.kind === 'down' && fault.device === null && !fault.about);
  }
}

function isOfHandshake(fault: CloudFault): fault is HandshakeFault {
  return fault.kind.startsWith('handshake-');
}
