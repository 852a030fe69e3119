import { REQUEST, type RequestName } from '#src/dfu/codec.ts';
import type { Fault } from '#src/core/errors.ts';
import { parseUsbPath } from '#src/core/usb-path.ts';
import type { ControlSetup, InResult, OutResult, UsbPort } from '#src/usb/port.ts';

/** What a device answers: bytes, a stall, how many bytes it took; or a throw, which is the port's. */
type Answer = Uint8Array | 'stall' | { readonly took: number };

export interface Script {
  /** By request name; what is not named here, the device does well. */
  readonly on?: Partial<Record<RequestName, (setup: ControlSetup, length: number) => Answer>>;
  /** GETSTATUS, in this order; the last one again and again. `state`, or state, poll timeout and status. */
  readonly statuses?: readonly (number | readonly [state: number, pollMs: number, status?: number])[];
  /** Descriptors by wValue; null: stalled. */
  readonly descriptors?: Readonly<Record<number, Uint8Array | null>>;
  /** What SET_INTERFACE throws; without this, the device does it. */
  readonly select?: Fault;
  /** Called at each open, with its number from 1. */
  readonly open?: (attempt: number) => void;
}

export interface Asked {
  readonly name: RequestName;
  readonly value: number;
  readonly timeoutMs: number;
}

export const PATH = parseUsbPath('1-1.1')!;

export function statusBytes(state: number, pollMs = 0, status = 0): Uint8Array {
  return Uint8Array.of(status, pollMs & 0xff, (pollMs >> 8) & 0xff, pollMs >> 16, state, 0);
}

/** A USB string descriptor (USB 2.0, 9.6.7). */
export function stringDescriptor(text: string): Uint8Array {
  const units = Buffer.from(text, 'utf16le');
  return Buffer.concat([Buffer.of(units.length + 2, 3), units]);
}

export const FUNCTIONAL: readonly number[] = [9, 0x21, 0x0b, 0xff, 0, 0, 0x10, 0x1a, 1];

/** An interface descriptor of DFU mode. */
export function alternate(number: number, nameIndex: number): number[] {
  return [9, 4, 0, number, 0, 0xfe, 1, 2, nameIndex];
}

export function configuration(...parts: readonly (readonly number[])[]): Uint8Array {
  const body = parts.flat();
  return Uint8Array.from([9, 2, 9 + body.length, 0, 1, 1, 0, 0xc0, 50, ...body]);
}

/** Those of a Photon in DFU mode. */
export const GOOD_DESCRIPTORS: Readonly<Record<number, Uint8Array | null>> = {
  0x100: Uint8Array.from([18, 1, 0, 2, 0, 0, 0, 64, 0x04, 0x2b, 0x06, 0xd0, 0x50, 2, 1, 2, 3, 1]),
  0x200: configuration(alternate(0, 6), alternate(1, 7), FUNCTIONAL),
  0x303: stringDescriptor('0123456789ABCDEF01234567'),
  0x306: stringDescriptor('@Internal Flash   /0x08000000/03*016Ka'),
  0x307: stringDescriptor('@DCT Flash   /0x00000000/01*016Kg'),
};

/** A port whose device tells whatever it is told to tell: for lies that the virtual Photon is too honest for. */
export class ScriptedPort implements UsbPort {
  readonly path = PATH;
  readonly hub = '1-1';
  readonly instance = '1';
  readonly vendorId = 0x2b04;
  readonly productId = 0xd006;
  readonly release = 0x0250;
  readonly serialNumber = null;
  opened = false;
  opens = 0;
  closes = 0;
  /** Every DFU request, with the timeout that it was given. */
  readonly asked: Asked[] = [];
  readonly #script: Script;
  #status = 0;

  constructor(script: Script = {}) {
    this.#script = script;
  }

  async open(): Promise<void> {
    await Promise.resolve();
    this.opens += 1;
    this.#script.open?.(this.opens);
    this.opened = true;
  }

  async close(): Promise<void> {
    await Promise.resolve();
    this.closes += 1;
    this.opened = false;
  }

  claimInterface(): Promise<void> {
    return Promise.resolve();
  }

  releaseInterface(): Promise<void> {
    return Promise.resolve();
  }

  async selectAlternateInterface(): Promise<void> {
    await Promise.resolve();
    if (this.#script.select) throw this.#script.select;
  }

  reset(): Promise<void> {
    return Promise.resolve();
  }

  async controlTransferIn(setup: ControlSetup, length: number, timeoutMs: number): Promise<InResult> {
    await Promise.resolve();
    if (setup.requestType === 'standard') {
      const known = { ...GOOD_DESCRIPTORS, ...this.#script.descriptors }[setup.value];
      return known ? { status: 'ok', data: known.slice(0, length) } : { status: 'stall' };
    }
    const answer = this.#answer(setup, length, timeoutMs);
    return answer instanceof Uint8Array ? { status: 'ok', data: answer } : { status: 'stall' };
  }

  async controlTransferOut(setup: ControlSetup, data: Uint8Array, timeoutMs: number): Promise<OutResult> {
    await Promise.resolve();
    const answer = this.#answer(setup, data.length, timeoutMs);
    if (answer === 'stall') return { status: 'stall' };
    return { status: 'ok', bytesWritten: 'took' in answer ? answer.took : data.length };
  }

  /** The names of what was asked, in their order. */
  get names(): string[] {
    return this.asked.map(({ name }) => name);
  }

  #answer(setup: ControlSetup, length: number, timeoutMs: number): Answer {
    const name = (Object.keys(REQUEST) as RequestName[]).find(each => REQUEST[each] === setup.request);
    if (!name) throw new Error(`no DFU request: ${setup.request}`);
    this.asked.push({ name, value: setup.value, timeoutMs });
    const said = this.#script.on?.[name]?.(setup, length);
    if (said !== undefined) return said;
    return name === 'GETSTATUS' ? this.#nextStatus() : new Uint8Array(length);
  }

  #nextStatus(): Uint8Array {
    const statuses = this.#script.statuses ?? [5];
    const status = statuses[Math.min(this.#status, statuses.length - 1)] ?? 5;
    this.#status += 1;
    return typeof status === 'number' ? statusBytes(status) : statusBytes(...status);
  }
}
