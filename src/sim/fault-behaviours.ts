import type { Behaviour, Grip } from './photon-behaviour.ts';
import { STATE } from './photon-dfu.ts';
import type { MediaResult } from './photon-media.ts';
import { DONE, GONE, isDfu, STALL, type RequestName } from './photon-request.ts';

/** Where a fault can strike: a request of DFU, a descriptor, or `write`: inside the GETSTATUS that writes. */
export const FAULT_REQUESTS = [
  'dnload',
  'upload',
  'getstatus',
  'clrstatus',
  'getstate',
  'abort',
  'descriptor',
  'write',
] as const satisfies readonly (RequestName | 'write')[];
export type FaultRequest = (typeof FAULT_REQUESTS)[number];

/** Says of each in a row whether it is struck: the nth only, or all where `nth` is undefined. */
function striking(nth: number | undefined): () => boolean {
  let seen = 0;
  return () => {
    seen += 1;
    return nth === undefined || seen === nth;
  };
}

/** The write fails, as from a worn flash: nothing changes, and the transfer stalls. */
export function writeStall(nth?: number): Behaviour {
  const strikes = striking(nth);
  return { write: async (block, pass) => (strikes() ? 'failed' : await pass(block)) };
}

/** The block is lost, and the device says that all is well. */
export function writeDrop(nth?: number): Behaviour {
  const strikes = striking(nth);
  return { write: async (block, pass) => (strikes() ? 'done' : await pass(block)) };
}

/** One bit in the middle of the block is wrong in flash afterwards, and the device says that all is well. */
export function writeFlip(nth?: number): Behaviour {
  const strikes = striking(nth);
  return {
    write: async (block, pass) => await pass(strikes() ? { ...block, data: withFlippedBit(block.data) } : block),
  };
}

/** Where the weak byte lies: in the device key of the DCT, and in system-part1 on the other alternate settings. */
const WEAK_BYTE = { dct: 834, flash: 0x0802_0342 } as const;

/** A byte that every second read of it gives with one bit wrong, whichever region the read asks for. */
export function readUnstable(): Behaviour {
  const times = new Map<number, number>();
  return {
    read({ alternate, address, length }, pass) {
      const data = pass();
      const weak = (alternate === 1 ? WEAK_BYTE.dct : WEAK_BYTE.flash) - address;
      if (data === 'hung' || weak < 0 || weak >= length) return data;
      const nth = (times.get(alternate) ?? 0) + 1;
      times.set(alternate, nth);
      return nth % 2 === 0 ? withFlippedBit(data, weak) : data;
    },
  };
}

/** What takes the place of the request, or of the write, that is struck. */
interface Strike {
  readonly act: (grip: Grip) => Promise<void> | void;
  /** How the device itself sees such a write end. Nothing is written. */
  readonly writeEnds: MediaResult;
}

function strikeAt(where: FaultRequest, nth: number | undefined, { act, writeEnds }: Strike): Behaviour {
  const strikes = striking(nth);
  if (where === 'write') {
    return {
      async write(block, pass, grip) {
        if (!strikes()) return await pass(block);
        await act(grip);
        return writeEnds;
      },
    };
  }
  return {
    async request({ name }, pass, grip) {
      if (name !== where || !strikes()) return await pass();
      await act(grip);
      return GONE;
    },
  };
}

/** Never answers; goes on as if nothing was when the host has given up. A write that hangs is not carried out. */
export function hang(where: FaultRequest, nth?: number): Behaviour {
  return strikeAt(where, nth, { act: grip => grip.untilGivenUp(), writeEnds: 'done' });
}

/**
 * Firmware that has run into an endless loop: from that request on nothing is answered, GET_DESCRIPTOR as little as
 * GETSTATUS, until the bus is reset or the power goes. Afterwards it is an ordinary device again.
 */
export function hangUntilReset(where: FaultRequest, nth = 1): Behaviour {
  let hung = false;
  const begin = strikeAt(where, nth, {
    act(grip) {
      hung = true;
      return grip.untilGivenUp();
    },
    writeEnds: 'done',
  });
  return {
    ...begin,
    async request(request, pass, grip) {
      if (!hung) return (await begin.request?.(request, pass, grip)) ?? (await pass());
      await grip.untilGivenUp();
      return GONE;
    },
    reset() {
      hung = false;
    },
  };
}

/** The cable is pulled at the nth such request; `write`: while the flash is being written, the old copy stays whole. */
export function unplugAt(where: FaultRequest, nth = 1): Behaviour {
  return strikeAt(where, nth, { act: grip => grip.unplug(), writeEnds: 'failed' });
}

/**
 * A loose contact at the nth such request: the device is off the bus, and there again, in DFU mode and with another
 * number, after so many ms. `write`: the write is lost, the old copy stays whole.
 */
export function bounceAt(where: FaultRequest, nth = 1, backInMs = 500): Behaviour {
  return strikeAt(where, nth, { act: grip => grip.unplug(backInMs), writeEnds: 'failed' });
}

/**
 * The power fails inside the nth write. The DCT is kept in two copies, of which a write makes the other one whole and
 * then switches to it (device-os: dct_hal.c): what is there afterwards is the old one or the new one, never half.
 * @param copy which of the two: the power failed before the switch, or after it
 */
export function powerCut(copy: 'old' | 'new', nth = 1): Behaviour {
  const strikes = striking(nth);
  return {
    async write(block, pass, grip) {
      if (!strikes()) return await pass(block);
      const result = copy === 'new' ? await pass(block) : 'failed';
      grip.cutPower();
      return result;
    },
  };
}

/** dfuDNBUSY, to be asked again in 1 ms (DFU 1.1, 6.1.2). */
const BUSY_STATUS = Uint8Array.of(0, 1, 0, 0, STATE.busy, 0);

/**
 * The nth write never ends: its bytes are in flash, and the device says dfuDNBUSY until the bus is reset or the power
 * goes. As this bootloader does in that state it stalls DNLOAD and UPLOAD (device-os: usbd_dfu_core.c); ABORT and
 * CLRSTATUS it takes, and they help nothing.
 */
export function stuckBusy(nth = 1): Behaviour {
  const strikes = striking(nth);
  let stuck = false;
  return {
    async write(block, pass) {
      const result = await pass(block);
      if (strikes()) stuck = true;
      return result;
    },
    async request({ name, setup }, pass) {
      if (!stuck || !isDfu(setup)) return await pass();
      switch (name) {
        case 'getstatus':
          return { kind: 'ok', data: BUSY_STATUS.slice(0, setup.length) };
        case 'getstate':
          return { kind: 'ok', data: Uint8Array.of(STATE.busy).slice(0, setup.length) };
        case 'dnload':
        case 'upload':
          return STALL;
        default:
          return DONE;
      }
    },
    reset() {
      stuck = false;
    },
  };
}

function withFlippedBit(data: Uint8Array, at = data.length >> 1): Uint8Array {
  const copy = Uint8Array.from(data);
  if (at < copy.length) copy[at] = (copy[at] ?? 0) ^ 0x10;
  return copy;
}
