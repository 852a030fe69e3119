import { Fault, type Facts } from '../core/errors.ts';
import type { ControlSetup } from './port.ts';
import { requestName } from './setup-packet.ts';

/** The faults of the seam, worded alike by every implementation of it. */

export function goneFault(path: string): Fault {
  return new Fault('USB_GONE', `${path}: the device left the bus`, { facts: { path } });
}

export function busyFault(path: string): Fault {
  return new Fault('USB_BUSY', `${path}: another program holds the device`, { facts: { path } });
}

/** @param timeoutMs how long it was waited for */
export function timeoutFault(path: string, setup: ControlSetup, timeoutMs: number): Fault {
  const request = requestName(setup);
  return new Fault('USB_TIMEOUT', `${path}: no answer to ${request} in ${timeoutMs} ms`, {
    facts: { path, request, timeoutMs },
  });
}

export function stallFault(path: string, setup: ControlSetup): Fault {
  const request = requestName(setup);
  return new Fault('USB_STALL', `${path}: the device refused ${request} ${setup.value}`, {
    facts: { path, request, value: setup.value },
  });
}

export function ioFault(path: string, why: string, facts: Facts = {}): Fault {
  return new Fault('USB_IO', `${path}: ${why}`, { facts: { path, ...facts } });
}
