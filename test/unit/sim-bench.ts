import type { Clock } from '#src/core/clock.ts';
import { parseDeviceId } from '#src/core/device-id.ts';
import type { Behaviour } from '#src/sim/photon-behaviour.ts';
import { buildPhoton, makeContent, type PhotonSpec } from '#src/sim/photon-spec.ts';
import type { Departure, VirtualPhoton } from '#src/sim/virtual-photon.ts';
import { STALL, type Reply } from '#src/sim/photon-request.ts';
import { isIn, setupPacket } from '#src/usb/setup-packet.ts';
import type { ControlSetup, UsbPort } from '#src/usb/port.ts';
import { afterBySleep } from '../support/after-by-sleep.ts';

/** A clock that stands still until told otherwise. */
export class ManualClock implements Clock {
  #now = 1_700_000_000_000;
  /** How often somebody went to sleep. */
  sleeps = 0;
  #sleepers: { until: number; wake: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now;
  }

  /** How many sleep now. */
  get sleeping(): number {
    return this.#sleepers.length;
  }

  readonly after = afterBySleep((ms, signal) => this.sleep(ms, signal));

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.sleeps += 1;
    if (signal?.aborted) return Promise.resolve();
    return new Promise(resolve => {
      const sleeper = { until: this.#now + ms, wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener('abort', () => {
        this.#sleepers = this.#sleepers.filter(each => each !== sleeper);
        resolve();
      });
    });
  }

  async advance(ms: number): Promise<void> {
    await turn();
    this.#now += ms;
    const due = this.#sleepers.filter(({ until }) => until <= this.#now);
    this.#sleepers = this.#sleepers.filter(({ until }) => until > this.#now);
    for (const { wake } of due) wake();
    await turn();
  }
}

/** Lets everything run that is ready to run. */
export async function turn(): Promise<void> {
  for (let n = 0; n < 3; n += 1) await new Promise<void>(resolve => setImmediate(resolve));
}

/** Waits for something that comes by itself, without guessing how long it takes. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise<void>(resolve => setImmediate(resolve));
}

export const AN_ID = parseDeviceId('0123456789abcdef01234567')!;

export interface Bench {
  readonly photon: VirtualPhoton;
  readonly host: Host;
  readonly departures: Departure[];
}

/** One photon, without keys and without delays unless asked for, and a host that speaks DFU to it. */
export async function bench(
  spec: Partial<PhotonSpec> = {},
  more: { clock?: Clock; behaviours?: Behaviour[] } = {},
): Promise<Bench> {
  const whole: PhotonSpec = {
    deviceId: AN_ID,
    platform: 'photon',
    bootloader: 'new',
    serialCase: 'upper',
    writeMs: 0,
    keys: 'blank',
    idInDct: true,
    systemParts: 'whole',
    ...spec,
  };
  const departures: Departure[] = [];
  const photon = buildPhoton(whole, await makeContent(whole), {
    clock: more.clock,
    behaviours: more.behaviours ?? [],
    onDeparture: why => departures.push(why),
  });
  return { photon, host: new Host(photon), departures };
}

/** What a GETSTATUS says, in a form that reads well: `state/status`, and the poll timeout where it is not 0. */
function statusText(bytes: Uint8Array): string {
  const poll = (bytes[1] ?? 0) | ((bytes[2] ?? 0) << 8);
  return `${bytes[4] ?? '?'}/${bytes[0] ?? '?'}${poll > 0 ? ` poll ${poll}` : ''}`;
}

/** DFU requests in the raw. */
export class Host {
  readonly #photon: Pick<VirtualPhoton, 'control'>;

  constructor(photon: Pick<VirtualPhoton, 'control'>) {
    this.#photon = photon;
  }

  in(setup: ControlSetup, length: number, cancel?: AbortSignal): Promise<Reply> {
    return this.#photon.control(setupPacket(setup, 'in', length), new Uint8Array(0), cancel);
  }

  out(setup: ControlSetup, data: Uint8Array, cancel?: AbortSignal): Promise<Reply> {
    return this.#photon.control(setupPacket(setup, 'out', data.length), data, cancel);
  }

  async status(cancel?: AbortSignal): Promise<string> {
    const reply = await this.in(dfu(3), 6, cancel);
    return reply.kind === 'ok' ? statusText(reply.data) : reply.kind;
  }

  async state(): Promise<number | Reply['kind']> {
    const reply = await this.in(dfu(5), 1);
    return reply.kind === 'ok' ? (reply.data[0] ?? -1) : reply.kind;
  }

  async download(block: number, data: Uint8Array): Promise<Reply['kind']> {
    return (await this.out(dfu(1, block), data)).kind;
  }

  async upload(block: number, length: number): Promise<Uint8Array | 'stall' | 'gone' | 'cancelled'> {
    const reply = await this.in(dfu(2, block), length);
    return reply.kind === 'ok' ? reply.data : reply.kind;
  }

  async abort(): Promise<Reply['kind']> {
    return (await this.out(dfu(6), new Uint8Array(0))).kind;
  }

  async clearStatus(): Promise<Reply['kind']> {
    return (await this.out(dfu(4), new Uint8Array(0))).kind;
  }

  async select(alternate: number): Promise<Reply['kind']> {
    const setup = { requestType: 'standard', recipient: 'interface', request: 11, value: alternate, index: 0 } as const;
    return (await this.out(setup, new Uint8Array(0))).kind;
  }

  /** A command of block 0, and both status requests: what the busy one said. */
  async command(...bytes: number[]): Promise<string> {
    await this.download(0, Uint8Array.from(bytes));
    const busy = await this.status();
    await this.status();
    return busy;
  }

  async point(address: number): Promise<string> {
    return await this.command(0x21, ...littleEndian(address));
  }

  async erase(address: number): Promise<string> {
    return await this.command(0x41, ...littleEndian(address));
  }

  /** Reads anywhere, from idle to idle. */
  async read(address: number, length: number): Promise<Buffer> {
    await this.point(address);
    await this.abort();
    const data = await this.upload(2, length);
    await this.abort();
    if (typeof data === 'string') throw new Error(`upload: ${data}`);
    return Buffer.from(data);
  }

  /** Writes one block: what the GETSTATUS said in which it was written. */
  async write(address: number, data: Uint8Array): Promise<string> {
    await this.point(address);
    await this.download(2, data);
    const busy = await this.status();
    await this.status();
    await this.abort();
    return busy;
  }
}

const TYPES = ['standard', 'class', 'vendor'] as const;
const RECIPIENTS = ['device', 'interface', 'endpoint', 'other'] as const;

/** A host behind a port that is open and claimed; what the port throws comes through. */
export function hostOver(port: UsbPort, timeoutMs = 5000): Host {
  return new Host({
    async control(packet, data) {
      const requestType = TYPES[(packet.requestType >> 5) & 3]!;
      const setup = { ...packet, requestType, recipient: RECIPIENTS[packet.requestType & 3]! };
      const result = isIn(packet)
        ? await port.controlTransferIn(setup, packet.length, timeoutMs)
        : await port.controlTransferOut(setup, data, timeoutMs);
      if (result.status === 'stall') return STALL;
      return { kind: 'ok', data: 'data' in result ? result.data : new Uint8Array(0) };
    },
  });
}

export function dfu(request: number, value = 0): ControlSetup {
  return { requestType: 'class', recipient: 'interface', request, value, index: 0 };
}

export function standard(request: number, value = 0, index = 0): ControlSetup {
  return { requestType: 'standard', recipient: 'device', request, value, index };
}

function littleEndian(address: number): number[] {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(address);
  return [...bytes];
}
