import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';

/** How the virtual cloud misbehaves. `device`: towards that device alone; null: towards everybody. */
export type CloudFault = { readonly device: DeviceId | null } & (
  | { readonly kind: 'down' | 'hang' | 'lost' | 'refuse-after-store' | 'redirect' }
  | { readonly kind: 'html'; readonly status: number }
  | { readonly kind: 'late'; readonly ms: number }
  /** `times`: the first so many requests; null: all of them. */
  | { readonly kind: 'status'; readonly status: number; readonly times: number | null }
  | { readonly kind: 'retry-after'; readonly seconds: number; readonly times: number | null }
);

export const CLOUD_FAULTS_HELP =
  'down · hang · status:CODE[:N] · html:CODE · late:MS · lost · refuse-after-store · retry-after:SECONDS[:N] · redirect · device:ID:FAULT';

/**
 * A fault as it is written on the command line:
 * - `down`: every connection is reset at once
 * - `hang`: takes requests and never answers
 * - `status:CODE[:N]`: answers CODE, to all requests or to the first N
 * - `html:CODE`: the same with a page of HTML, as a proxy does
 * - `late:MS`: takes the key and answers after MS milliseconds
 * - `lost`: takes the key and cuts the connection
 * - `refuse-after-store`: takes the key and answers 400
 * - `retry-after:SECONDS[:N]`: answers 429 with Retry-After
 * - `redirect`: answers 302 to elsewhere
 * - `device:ID:FAULT`: any of these, for one device only
 * @throws Fault USAGE
 */
export function parseCloudFault(text: string): CloudFault {
  const words = text.trim().split(':');
  const forDevice = words[0] === 'device';
  const device = forDevice ? parseDeviceId(words[1] ?? '') : null;
  const fault = forDevice && device === null ? null : read(words.slice(forDevice ? 2 : 0), device);
  if (fault === null) {
    throw new Fault('USAGE', `${JSON.stringify(text.slice(0, 80))} is no fault of the virtual cloud`, {
      hint: `it knows: ${CLOUD_FAULTS_HELP}`,
    });
  }
  return fault;
}

function read(words: readonly string[], device: DeviceId | null): CloudFault | null {
  const [kind, first, second] = words;
  const arity = words.length - 1;
  switch (kind) {
    case 'down':
    case 'hang':
    case 'lost':
    case 'refuse-after-store':
    case 'redirect':
      return arity === 0 ? { kind, device } : null;
    case 'html': {
      const status = whole(first, 200, 599);
      return arity === 1 && status !== null ? { kind, device, status } : null;
    }
    case 'late': {
      const ms = whole(first, 0, 600_000);
      return arity === 1 && ms !== null ? { kind, device, ms } : null;
    }
    case 'status':
    case 'retry-after': {
      const value = kind === 'status' ? whole(first, 200, 599) : whole(first, 0, 1_000_000);
      const times = second === undefined ? null : whole(second, 0, 1_000_000);
      if (arity < 1 || arity > 2 || value === null || (second !== undefined && times === null)) return null;
      return kind === 'status' ? { kind, device, status: value, times } : { kind, device, seconds: value, times };
    }
    default:
      return null;
  }
}

function whole(text: string | undefined, min: number, max: number): number | null {
  if (text === undefined || !/^\d{1,7}$/.test(text)) return null;
  const value = Number(text);
  return value >= min && value <= max ? value : null;
}

/** The faults in force. The first that fits a request is taken; those with a number of times are used up. */
export class FaultPlan {
  readonly #faults: { readonly fault: CloudFault; left: number }[];

  constructor(faults: readonly CloudFault[]) {
    this.#faults = faults.map(fault => ({
      fault,
      left: 'times' in fault && fault.times !== null ? fault.times : Infinity,
    }));
  }

  /** @param device the one that the request is about; null where it is about none */
  take(device: DeviceId | null): CloudFault | null {
    const entry = this.#faults.find(
      ({ fault, left }) => left > 0 && (fault.device === null || fault.device === device),
    );
    if (!entry) return null;
    entry.left -= 1;
    return entry.fault;
  }

  /** No connection is taken at all. */
  get isDown(): boolean {
    return this.#faults.some(({ fault }) => fault.kind === 'down' && fault.device === null);
  }
}
