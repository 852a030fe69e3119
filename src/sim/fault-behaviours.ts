import type { Behaviour } from './photon-behaviour.ts';
import { GONE, type RequestName } from './photon-request.ts';

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

/** Never answers; goes on as if nothing was when the host has given up. A write that hangs is not carried out. */
export function hang(where: FaultRequest, nth?: number): Behaviour {
  const strikes = striking(nth);
  if (where === 'write') {
    return {
      async write(block, pass, grip) {
        if (!strikes()) return await pass(block);
        await grip.untilGivenUp();
        return 'done';
      },
    };
  }
  return {
    async request({ name }, pass, grip) {
      if (name !== where || !strikes()) return await pass();
      await grip.untilGivenUp();
      return GONE;
    },
  };
}

/** The cable is pulled at the nth such request; `write`: while the flash is being written, the old copy stays whole. */
export function unplugAt(where: FaultRequest, nth: number): Behaviour {
  const strikes = striking(nth);
  if (where === 'write') {
    return {
      async write(block, pass, grip) {
        if (!strikes()) return await pass(block);
        grip.unplug();
        return 'failed';
      },
    };
  }
  return {
    async request({ name }, pass, grip) {
      if (name !== where || !strikes()) return await pass();
      grip.unplug();
      return GONE;
    },
  };
}

function withFlippedBit(data: Uint8Array, at = data.length >> 1): Uint8Array {
  const copy = Uint8Array.from(data);
  if (at < copy.length) copy[at] = (copy[at] ?? 0) ^ 0x10;
  return copy;
}
