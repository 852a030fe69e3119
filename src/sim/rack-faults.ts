import { parseDeviceId, type DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { parseUsbPath, type UsbPath } from '../core/usb-path.ts';
import {
  bounceAt,
  FAULT_REQUESTS,
  hang,
  hangUntilReset,
  powerCut,
  readUnstable,
  stuckBusy,
  unplugAt,
  writeDrop,
  writeFlip,
  writeStall,
  type FaultRequest,
} from './fault-behaviours.ts';
import type { Behaviour } from './photon-behaviour.ts';
import { DESCRIPTOR_FLAWS } from './photon-descriptors.ts';
import type { KeyKind } from './photon-image.ts';
import type { PhotonSpec } from './photon-spec.ts';

/** What a fault does to a device: makes it another one, or lays a behaviour on top of it, fresh for each device. */
export interface FaultEffect {
  readonly change?: (spec: PhotonSpec) => PhotonSpec;
  readonly behaviour?: () => Behaviour;
}

type FaultTarget =
  | { readonly by: 'all' }
  | { readonly by: 'index'; readonly index: number }
  | { readonly by: 'id'; readonly id: DeviceId }
  | { readonly by: 'path'; readonly path: UsbPath };

export interface RackFault {
  /** As it was given: `#3:write-stall:2`. */
  readonly text: string;
  readonly target: FaultTarget;
  readonly effect: FaultEffect;
}

type Kind = {
  /** How it is written, for the message. */
  readonly usage: string;
  /** @returns null where the argument makes no sense */
  make(arg: string | undefined): FaultEffect | null;
};

function changing(usage: string, change: (spec: PhotonSpec) => PhotonSpec): Kind {
  return { usage, make: arg => (arg === undefined ? { change } : null) };
}

function keyed(usage: string, keys: KeyKind): Kind {
  return changing(usage, spec => ({ ...spec, keys }));
}

function counted(name: string, behaviour: (nth?: number) => Behaviour): Kind {
  return {
    usage: `${name}[:N]`,
    make(arg) {
      const nth = countOf(arg);
      return nth === null ? null : { behaviour: () => behaviour(nth) };
    },
  };
}

/** @returns undefined where there is none, null where it is no number from 1 on */
function countOf(text: string | undefined): number | undefined | null {
  if (text === undefined) return undefined;
  return /^[1-9][0-9]{0,5}$/.test(text) ? Number(text) : null;
}

/** REQ, and behind it at most two numbers. */
type AtRequest = (where: FaultRequest, nth?: number, ms?: number) => Behaviour;

function atRequest(name: string, numbers: '[:N]' | '[:N[:MS]]', behaviour: AtRequest): Kind {
  const most = numbers === '[:N]' ? 2 : 3;
  return {
    usage: `${name}:REQ${numbers}`,
    make(arg) {
      const words = (arg ?? '').split(':');
      const where = FAULT_REQUESTS.find(known => known === words[0]);
      const [nth, ms] = [countOf(words[1]), countOf(words[2])];
      if (where === undefined || nth === null || ms === null || words.length > most) return null;
      return { behaviour: () => behaviour(where, nth, ms) };
    },
  };
}

const REQUESTS = `REQ being ${FAULT_REQUESTS.join('|')}`;

/**
 * Every kind of fault. Those about what the flash holds (keys, ID, system parts) apply when a device is made, not when
 * a rack with a state folder finds it again: what was written since would be lost.
 */
const KINDS: Readonly<Record<string, Kind>> = {
  'old-bootloader': changing('old-bootloader', spec => ({ ...spec, bootloader: 'old' })),
  p1: changing('p1', spec => ({ ...spec, platform: 'p1' })),
  'no-dct-id': changing('no-dct-id', spec => ({ ...spec, idInDct: false })),
  'dct-zeros': changing('dct-zeros', spec => ({ ...spec, systemParts: 'broken' })),
  // Another product that answers with a Photon's VID and PID: ST's own bootloader, with its memories, and no DCT.
  'other-product': changing('other-product', spec => ({ ...spec, product: 'other' })),
  // Descriptors as a bad cable, a half-flashed bootloader or an impostor gives them (USB 2.0, 9.6; DFU 1.1, 4.1.3):
  // `truncated`: the configuration ends in the midst of an alternate setting, `lying`: wTotalLength and a bLength are
  // more than what follows, `no-functional`: the DFU functional descriptor is missing, `utf16`: strings of odd length
  // and with unpaired surrogates, `transfer-size`: wTransferSize is 2048.
  descriptor: {
    usage: `descriptor:${DESCRIPTOR_FLAWS.join('|')}`,
    make(arg) {
      const flaw = DESCRIPTOR_FLAWS.find(known => known === arg);
      return flaw === undefined
        ? null
        : { change: spec => ({ ...spec, descriptorFlaws: [...(spec.descriptorFlaws ?? []), flaw] }) };
    },
  },
  // udev, which lets a user in some time after a device appeared; counted from the first try, so that it is met.
  'late-access': {
    usage: 'late-access:MS',
    make(arg) {
      const ms = countOf(arg);
      return typeof ms === 'number' ? { change: spec => ({ ...spec, lateAccessMs: ms }) } : null;
    },
  },
  'write-stall': counted('write-stall', writeStall),
  'write-drop': counted('write-drop', writeDrop),
  'write-flip': counted('write-flip', writeFlip),
  'read-unstable': {
    usage: 'read-unstable',
    make: arg => (arg === undefined ? { behaviour: () => readUnstable() } : null),
  },
  'stuck-busy': counted('stuck-busy', stuckBusy),
  'power-cut': {
    usage: 'power-cut:old|new[:N]',
    make(arg) {
      const [copy, count, ...more] = (arg ?? '').split(':');
      const nth = countOf(count);
      if ((copy !== 'old' && copy !== 'new') || nth === null || more.length > 0) return null;
      return { behaviour: () => powerCut(copy, nth) };
    },
  },
  hang: atRequest('hang', '[:N]', hang),
  'hang-until-reset': atRequest('hang-until-reset', '[:N]', hangUntilReset),
  unplug: atRequest('unplug', '[:N]', unplugAt),
  bounce: atRequest('bounce', '[:N[:MS]]', bounceAt),
  'start-state': {
    usage: 'start-state:N',
    make(arg) {
      const state = arg !== undefined && /^[0-9]{1,3}$/.test(arg) ? Number(arg) : 256;
      return state > 255 ? null : { change: spec => ({ ...spec, startState: state }) };
    },
  },
  serial: {
    usage: 'serial:TEXT',
    make: arg => (arg === undefined || arg.length > 126 ? null : { change: spec => ({ ...spec, serial: arg }) }),
  },
  'no-serial': changing('no-serial', spec => ({ ...spec, serial: null })),
  'same-id': {
    usage: 'same-id:ID',
    make(arg) {
      const deviceId = parseDeviceId(arg ?? '');
      return deviceId && { change: spec => ({ ...spec, deviceId }) };
    },
  },
  'blank-key': keyed('blank-key', 'blank'),
  'zero-key': keyed('zero-key', 'zero'),
  'pkcs8-key': keyed('pkcs8-key', 'pkcs8'),
  'truncated-key': keyed('truncated-key', 'truncated'),
  'misread-key': keyed('misread-key', 'misread'),
  // Of a rack whose devices carry a given server key: this one carries another.
  'other-server-key': changing('other-server-key', spec => ({ ...spec, serverKey: undefined })),
  // Of a rack whose devices boot: after leaving DFU mode it never comes back; in normal mode it stalls every way into DFU
  // mode; each of its boots takes MS.
  'no-boot': changing('no-boot', spec => ({ ...spec, neverBoots: true })),
  deaf: changing('deaf', spec => ({ ...spec, deaf: true })),
  'slow-boot': {
    usage: 'slow-boot:MS',
    make(arg) {
      const ms = countOf(arg);
      return typeof ms === 'number' ? { change: spec => ({ ...spec, bootMs: ms }) } : null;
    },
  },
  'slow-leave': changing('slow-leave', spec => ({ ...spec, leaveMs: 3000 })),
};

function parseTarget(text: string): FaultTarget | null {
  if (text === '*') return { by: 'all' };
  const index = text.startsWith('#') ? countOf(text.slice(1)) : undefined;
  if (index !== undefined) return index === null ? null : { by: 'index', index };
  const id = parseDeviceId(text);
  if (id) return { by: 'id', id };
  const path = parseUsbPath(text);
  return path && { by: 'path', path };
}

/**
 * @param text `DEVICE:KIND[:ARG]`; DEVICE is a device ID, a bus ID (`1-2.3`), an index from 1 (`#3`), or `*`
 * @throws Fault USAGE, naming the kinds
 */
export function parseFault(text: string): RackFault {
  const [, device = '', name = '', arg] = /^([^:]*):([^:]*)(?::(.*))?$/s.exec(text) ?? [];
  const target = parseTarget(device);
  if (!target) {
    throw new Fault('USAGE', `fault \`${text}\`: \`${device}\` is no device`, {
      hint: 'write DEVICE:KIND[:ARG], DEVICE being a device ID, a bus ID such as 1-2.3, an index such as #3, or *',
    });
  }
  const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
  if (!kind) {
    throw new Fault('USAGE', `fault \`${text}\`: there is no kind \`${name}\``, {
      hint: `the kinds are ${Object.values(KINDS)
        .map(({ usage }) => usage)
        .join(', ')}; ${REQUESTS}`,
    });
  }
  const effect = kind.make(arg);
  if (!effect) {
    throw new Fault('USAGE', `fault \`${text}\`: its argument makes no sense`, {
      hint: `it is written ${kind.usage}${kind.usage.includes(':REQ') ? `; ${REQUESTS}` : ''}`,
    });
  }
  return { text, target, effect };
}

/** Whether a fault is meant for a device, which is named by what it was before any fault changed it. */
export function strikes(
  fault: RackFault,
  device: { readonly index: number; readonly busId: string; readonly deviceId: DeviceId },
): boolean {
  const { target } = fault;
  switch (target.by) {
    case 'all':
      return true;
    case 'index':
      return target.index === device.index;
    case 'id':
      return target.id === device.deviceId;
    case 'path':
      return target.path === device.busId;
  }
}
