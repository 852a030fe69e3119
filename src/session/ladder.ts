import type { FaultCode } from '../core/errors.ts';

/**
 * What is tried with a device that failed, from the mildest on; each at most once in a session, and each goes on record:
 * - again: the steps once more, from the first, which by the record and the bytes on the device go on where they were
 * - dfu-recovery: first out of whatever state DFU is in, and a write that the host gave up on has come to its end
 * - usb-reset: first a reset of the port, and the device opened anew at its path
 * - re-enumerate: the device has left the bus; it is waited for at its path, as after a cable that bounced
 * - back-in-dfu: its system parts are new: out of DFU mode, so that it starts anew, and back
 * - ask-replug: nothing more can be done from here; the fault's hint says what the hand should do
 */
export const RUNGS = ['again', 'dfu-recovery', 'usb-reset', 're-enumerate', 'back-in-dfu', 'ask-replug'] as const;
export type Rung = (typeof RUNGS)[number];

/** For a device that is there. */
const ALL = ['again', 'dfu-recovery', 'usb-reset', 'ask-replug'] as const;

/**
 * Which rungs help against which fault. A fault that is not here is final: nothing changes by trying, or (READ_UNSTABLE)
 * trying until two reads agree would only hide it. After VERIFY_MISMATCH one more write has to do: flash that lies twice
 * is bad, and each write wears it.
 */
const LADDERS: Partial<Record<FaultCode, readonly Rung[]>> = {
  DFU_NOT_IDLE: ALL,
  DFU_PROTOCOL: ALL,
  READ_FAILED: ALL,
  WRITE_FAILED: ALL,
  LEAVE_FAILED: ALL,
  ROLLBACK_FAILED: ALL,
  USB_STALL: ALL,
  USB_IO: ALL,
  USB_TIMEOUT: ['dfu-recovery', 'usb-reset', 'ask-replug'],
  DESCRIPTOR_INVALID: ['usb-reset', 'ask-replug'],
  VERIFY_MISMATCH: ['again', 'ask-replug'],
  USB_GONE: ['re-enumerate', 'ask-replug'],
  RESET_NEEDED: ['ask-replug'],
  SESSION_DEADLINE: ['ask-replug'],
};

/** Climbs: no rung is taken twice, and none below one that was taken; after a start anew it stands on the ground again. */
export class Ladder {
  #height = -1;
  #hasStartedAnew = false;

  /** The next rung against a fault; null where there is none left, or trying is of no use. */
  next(code: FaultCode): Rung | null {
    if (code === 'RESET_NEEDED' && !this.#hasStartedAnew) {
      this.#hasStartedAnew = true;
      this.#height = -1;
      return 'back-in-dfu';
    }
    const rung = LADDERS[code]?.find(candidate => RUNGS.indexOf(candidate) > this.#height);
    if (rung === undefined) return null;
    this.#height = RUNGS.indexOf(rung);
    return rung;
  }
}
