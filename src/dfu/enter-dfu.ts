import type { Clock } from '../core/clock.ts';
import { Fault, isGone } from '../core/errors.ts';
import type { ControlSetup, UsbPort } from '../usb/port.ts';
import { openPatiently } from './open-patiently.ts';

/*
 * From normal mode into DFU mode without a hand. Over endpoint 0, where nothing is claimed, so that the kernel's driver keeps the
 * serial port: by the service protocol (Device OS 0.8 and newer; particle-usb, src/usb-protocol.js), else by a vendor request
 * (0.6.1 to 0.7; device-os, usb_hal). A device that knows neither has its serial port opened at 14400 baud, where the host has one.
 */

/** bRequest of the two service requests that are needed. */
const SERVICE = { INIT: 1, CHECK: 2 } as const;
/** The request type "enter DFU mode", as wIndex of INIT and of the vendor request. */
const ENTER_DFU = 50;
const VENDOR_REQUEST = 0x50;
const REPLY_BYTES = 64;
const REQUEST_TIMEOUT_MS = 5000;

const STATUS = { OK: 0, PENDING: 2, BUSY: 3 } as const;
const FIELD = { STATUS: 1, ID: 2, SIZE: 4, RESULT: 8 } as const;

/** Firmware that has just started may not have its requests up yet. */
const REFUSED_FOR_MS = 3000;
const ASK_AGAIN_MS = 250;

const CHECK_EVERY_MS = 50;
const CHECK_FOR_MS = 5000;

/** A reply of the service protocol; null: the field is not there. */
export interface ServiceReply {
  readonly status: number;
  readonly id: number | null;
  readonly result: number | null;
}

/** Flags u32, then, as they say, status u16, id u16, size u32, result i32; little endian. @returns null where it is none */
export function parseServiceReply(bytes: Uint8Array): ServiceReply | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 6) return null;
  const flags = view.getUint32(0, true);
  if ((flags & FIELD.STATUS) === 0) return null;
  const fields: [flag: number, size: number][] = [
    [FIELD.ID, 2],
    [FIELD.SIZE, 4],
    [FIELD.RESULT, 4],
  ];
  const at = new Map<number, number>();
  let end = 6;
  for (const [flag, size] of fields) {
    if ((flags & flag) === 0) continue;
    at.set(flag, end);
    end += size;
  }
  if (end > bytes.length) return null;
  const [id, result] = [at.get(FIELD.ID), at.get(FIELD.RESULT)];
  return {
    status: view.getUint16(4, true),
    id: id === undefined ? null : view.getUint16(id, true),
    result: result === undefined ? null : view.getInt32(result, true),
  };
}

/**
 * Tells a device in normal mode to start in DFU mode; it resets about a second later. The port is closed afterwards.
 * @throws Fault ENTER_DFU_REFUSED where it knows neither way, or says no; USB_*
 */
export async function enterDfu(port: UsbPort, clock: Clock): Promise<void> {
  await openPatiently(port, clock, { claim: false });
  const until = clock.monotonicMs() + REFUSED_FOR_MS;
  try {
    while (!(await isTold(port, clock))) {
      if (await port.touchSerial?.()) return;
      if (clock.monotonicMs() >= until) throw refused(port, 'it knows no way into DFU mode that a host could ask for');
      await clock.sleep(ASK_AGAIN_MS);
    }
  } catch (error) {
    if (!isGone(error)) throw error; // it is on its way
  } finally {
    await port.close();
  }
}

/** @returns false where it knows neither way */
async function isTold(port: UsbPort, clock: Clock): Promise<boolean> {
  if (await askedByService(port, clock)) return true;
  const setup = vendor(VENDOR_REQUEST, 0, ENTER_DFU);
  return (await port.controlTransferOut(setup, new Uint8Array(0), REQUEST_TIMEOUT_MS)).status === 'ok';
}

/**
 * INIT gives the request a number (or says BUSY while another one is under way), CHECK asks what became of it; the device
 * resets once the result has been taken.
 * @returns false where the device does not speak the service protocol
 */
async function askedByService(port: UsbPort, clock: Clock): Promise<boolean> {
  const init = vendor(SERVICE.INIT, 0, ENTER_DFU);
  let reply = await service(port, init);
  if (reply === null) return false;
  let { id } = reply;
  const until = clock.monotonicMs() + CHECK_FOR_MS;
  while (reply.status === STATUS.PENDING || reply.status === STATUS.BUSY || isAccepted(reply)) {
    if (clock.monotonicMs() >= until) throw refused(port, 'it does not come to an end with the request for DFU mode');
    if (!isAccepted(reply)) await clock.sleep(CHECK_EVERY_MS);
    reply = await service(port, id === null ? init : vendor(SERVICE.CHECK, 0, id));
    if (reply === null) throw refused(port, 'it refuses to tell what became of the request for DFU mode');
    id ??= reply.id;
  }
  const { status, result } = reply;
  if (status !== STATUS.OK || (result ?? 0) < 0) {
    throw refused(port, `it refuses DFU mode (status ${status}, result ${result ?? 0})`);
  }
  return true;
}

/** The request has its number, and no result yet. */
function isAccepted({ status, id, result }: ServiceReply): boolean {
  return status === STATUS.OK && id !== null && result === null;
}

async function service(port: UsbPort, setup: ControlSetup): Promise<ServiceReply | null> {
  const answer = await port.controlTransferIn(setup, REPLY_BYTES, REQUEST_TIMEOUT_MS);
  if (answer.status === 'stall') return null;
  const reply = parseServiceReply(answer.data);
  if (!reply) throw refused(port, 'its answer to the request for DFU mode makes no sense');
  return reply;
}

function vendor(request: number, value: number, index: number): ControlSetup {
  return { requestType: 'vendor', recipient: 'device', request, value, index };
}

function refused(port: UsbPort, message: string): Fault {
  return new Fault('ENTER_DFU_REFUSED', message, { facts: { path: port.path } });
}
