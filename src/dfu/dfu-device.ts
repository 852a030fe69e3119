import type { Clock } from '../core/clock.ts';
import { hexAddress } from '../core/bytes.ts';
import { Fault, isGone, isTimeout } from '../core/errors.ts';
import { failPoint } from '../core/fail-points.ts';
import type { FailPoint } from '../core/fail-points.ts';
import type { UsbPort } from '../usb/port.ts';
import { dfuSetup, eraseCommand, FIRST_DATA_BLOCK, parseStatus, setPointerCommand, STATE, stateName } from './codec.ts';
import type { DfuStatus, RequestName } from './codec.ts';
import { readDescriptors } from './descriptors.ts';
import { openPatiently } from './open-patiently.ts';
import type { DfuDescriptors } from './descriptors.ts';

/** The buffer of the bootloader; it does not check, so nothing longer may ever be sent. */
export const MAX_TRANSFER_BYTES = 4096;

const TRANSFER_TIMEOUT_MS = 5000;
/** A write runs inside the GETSTATUS that follows it: up to 2 s for a 128 KB sector. */
const WRITE_TIMEOUT_MS = 10_000;
/** bwPollTimeout has 24 bits; a device that asks for more than this is not obeyed. */
const MAX_POLL_WAIT_MS = 5000;
const MAX_BUSY_POLLS = 20;
/** How many blocks of a read are asked for at once. */
const UPLOADS_AT_ONCE = 8;

/**
 * One device in DFU mode, from open to closed, spoken to as its bootloader wants it (DFU 1.1; DfuSe, ST UM0424; the
 * Photon's deviations are noted where they matter). Reads and writes take an alternate setting and an address.
 */
export class DfuDevice {
  readonly port: UsbPort;
  readonly descriptors: DfuDescriptors;
  readonly #clock: Clock;
  #alternate = -1;

  private constructor(port: UsbPort, descriptors: DfuDescriptors, clock: Clock) {
    this.port = port;
    this.descriptors = descriptors;
    this.#clock = clock;
  }

  /**
   * Opens the device, claims its interface and reads its descriptors. A device that may not be opened yet (udev needs
   * up to 2 s, and so does a rack that has just let it go) is tried again for 2 s.
   * @throws Fault USB_*, DESCRIPTOR_INVALID, DEVICE_UNEXPECTED
   */
  static async open(port: UsbPort, clock: Clock, signal?: AbortSignal): Promise<DfuDevice> {
    await openPatiently(port, clock, { claim: true, signal });
    try {
      const descriptors = await readDescriptors(port);
      if (descriptors.vendorId !== port.vendorId || descriptors.productId !== port.productId) {
        throw new Fault('IDENTITY_CHANGED', 'the device at this path is another one by now', {
          facts: { path: port.path },
        });
      }
      if (descriptors.transferSize !== MAX_TRANSFER_BYTES) {
        throw new Fault('DEVICE_UNEXPECTED', `its DFU transfer size is ${descriptors.transferSize}, not 4096`, {
          facts: { path: port.path, transferSize: descriptors.transferSize },
        });
      }
      return new DfuDevice(port, descriptors, clock);
    } catch (error) {
      await port.close();
      throw error;
    }
  }

  /** Never throws: what went wrong before matters more. */
  async close(): Promise<void> {
    await this.port.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Brings the device to dfuIDLE from any state, the illegal 15 too. CLRSTATUS outside dfuERROR *puts* this bootloader
   * into dfuERROR, so it is sent only where that helps.
   * @throws Fault DFU_NOT_IDLE; DEVICE_LEAVING where it is about to reset
   */
  async toIdle(): Promise<void> {
    // In these a GETSTATUS would carry out what an earlier host had asked for, a block or the leaving; GETSTATE does not.
    const state = await this.#state();
    if (state === STATE.DNLOAD_SYNC || state === STATE.MANIFEST_SYNC) await this.#command('ABORT');
    let last: DfuStatus | null = null;
    for (let round = 0; round < 4; round += 1) {
      last = await this.#statusOrStall(TRANSFER_TIMEOUT_MS);
      if (last === null) continue; // the stall of a write that an earlier host gave up on
      if (last.state === STATE.IDLE && last.status === 0) return;
      switch (last.state) {
        case STATE.ERROR:
          await this.#command('CLRSTATUS');
          break;
        case STATE.DNLOAD_SYNC:
        case STATE.DNLOAD_IDLE:
        case STATE.MANIFEST_SYNC:
        case STATE.UPLOAD_IDLE:
          await this.#command('ABORT');
          break;
        case STATE.DNBUSY:
          await this.#pause(last);
          break;
        case STATE.MANIFEST:
        case STATE.WAIT_RESET:
          throw this.#fault('DEVICE_LEAVING', `the device is about to reset (${stateName(last.state)})`);
        default:
          await this.#command('CLRSTATUS');
          await this.#command('CLRSTATUS');
      }
    }
    throw this.#fault(
      'DFU_NOT_IDLE',
      last ? `the device stays in ${stateName(last.state)} with status ${last.status}` : 'the device refuses GETSTATUS',
    );
  }

  /**
   * Brings the device back from wherever a failed command left it. A write that this host gave up on may still be going
   * on: it is waited for, for up to as long again as a write may take.
   * @throws Fault DFU_NOT_IDLE, USB_*
   */
  async recover(): Promise<void> {
    this.#alternate = -1;
    const until = this.#clock.monotonicMs() + WRITE_TIMEOUT_MS;
    for (;;) {
      try {
        await this.toIdle();
        return;
      } catch (error) {
        if (!isTimeout(error) || this.#clock.monotonicMs() >= until) throw error;
      }
    }
  }

  /**
   * Reads `length` bytes from `address`: one pointer, then blocks of at most 4096, several of them asked for at once:
   * endpoint 0 serves them in turn. Ends in dfuIDLE.
   * @throws Fault READ_FAILED, USB_*
   */
  async read(alternate: number, address: number, length: number): Promise<Uint8Array> {
    await this.#setPointer(alternate, address, 'to-read');
    const bytes = new Uint8Array(length);
    const blocks = Math.ceil(length / MAX_TRANSFER_BYTES);
    for (let from = 0; from === 0 || from < blocks; from += UPLOADS_AT_ONCE) {
      const to = Math.min(from + UPLOADS_AT_ONCE, blocks);
      const asked: Promise<void>[] = from === 0 ? [this.#command('ABORT')] : [];
      for (let block = from; block < to; block += 1) asked.push(this.#upload(block, address, bytes));
      if (to === blocks) asked.push(this.#command('ABORT'));
      await Promise.all(asked);
    }
    return bytes;
  }

  /** One block behind the pointer, into its place in `bytes`. */
  async #upload(block: number, address: number, bytes: Uint8Array): Promise<void> {
    const at = block * MAX_TRANSFER_BYTES;
    const want = Math.min(MAX_TRANSFER_BYTES, bytes.length - at);
    const setup = dfuSetup('UPLOAD', FIRST_DATA_BLOCK + block);
    const answer = await this.port.controlTransferIn(setup, want, TRANSFER_TIMEOUT_MS);
    if (answer.status === 'stall' || answer.data.length !== want) {
      const got = answer.status === 'stall' ? 'refused' : `gave ${answer.data.length} bytes of`;
      throw this.#fault('READ_FAILED', `the device ${got} the ${want} at ${hexAddress(address + at)}`);
    }
    bytes.set(answer.data, at);
  }

  /**
   * Writes at most 4096 bytes as one block; ends in dfuDNLOAD-IDLE, from which every next command goes on. A failed write shows
   * only as a stall of the GETSTATUS in which it runs; the next GETSTATUS would say OK, so it is never asked again. The caller
   * reads back all the same.
   * @throws Fault WRITE_FAILED, USB_*
   */
  async writeBlock(alternate: number, address: number, bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0 || bytes.length > MAX_TRANSFER_BYTES) {
      throw new RangeError(`a block holds 1 to ${MAX_TRANSFER_BYTES} bytes, not ${bytes.length}`);
    }
    await this.#setPointer(alternate, address, 'to-write');
    failPoint('write:pointer-set');
    await this.#download(
      FIRST_DATA_BLOCK,
      bytes,
      () => this.#fault('WRITE_FAILED', `the device failed to write ${bytes.length} bytes at ${hexAddress(address)}`),
      'write:block-sent',
    );
    failPoint('write:block-written');
  }

  /**
   * Erases the one sector that holds `address`; ends in dfuDNLOAD-IDLE. As with a write, a failure shows as a stall of the
   * GETSTATUS in which it runs, and the caller reads back.
   * @throws Fault WRITE_FAILED, USB_*
   */
  async eraseSector(alternate: number, address: number): Promise<void> {
    await this.#select(alternate);
    await this.#download(0, eraseCommand(address), () =>
      this.#fault('WRITE_FAILED', `the device failed to erase the sector at ${hexAddress(address)}`),
    );
  }

  /**
   * Writes `bytes` from `address` on: one pointer, then blocks of 4096 side by side (block n ≥ 2 lies at pointer +
   * (n − 2) · 4096). Flash has to be erased there. Ends in dfuDNLOAD-IDLE.
   * @throws Fault WRITE_FAILED, USB_*
   */
  async writeRun(alternate: number, address: number, bytes: Uint8Array): Promise<void> {
    await this.#setPointer(alternate, address, 'to-write');
    for (let at = 0, block = FIRST_DATA_BLOCK; at < bytes.length; at += MAX_TRANSFER_BYTES, block += 1) {
      const piece = bytes.subarray(at, at + MAX_TRANSFER_BYTES);
      await this.#download(block, piece, () =>
        this.#fault('WRITE_FAILED', `the device failed to write ${piece.length} bytes at ${hexAddress(address + at)}`),
      );
    }
  }

  /**
   * Out of DFU, by way of alternate setting 0: a kernel that has selected another selects that one while it lets go of the
   * interface, and waits 5 s, with its hubs, for a device that is on its way out. Then a zero-length DNLOAD, then the GETSTATUS
   * without which nothing happens; some 500 ms later the device resets. A device that vanishes meanwhile has done what it was
   * told.
   * @throws Fault LEAVE_FAILED
   */
  async leave(): Promise<void> {
    try {
      await this.#select(0).catch(unlessGone); // whatever that was: what follows tells
      const out = await this.port.controlTransferOut(
        dfuSetup('DNLOAD', FIRST_DATA_BLOCK),
        new Uint8Array(0),
        TRANSFER_TIMEOUT_MS,
      );
      if (out.status === 'stall') throw this.#fault('LEAVE_FAILED', 'the device refuses to leave DFU mode');
      failPoint('leave:asked');
      // A stall may be that of a write which an earlier host gave up on; a second one means that nothing has happened.
      const status =
        (await this.#statusOrStall(TRANSFER_TIMEOUT_MS)) ?? (await this.#statusOrStall(TRANSFER_TIMEOUT_MS));
      const leaving: readonly number[] = [STATE.DNLOAD_IDLE, STATE.MANIFEST_SYNC, STATE.MANIFEST, STATE.WAIT_RESET];
      if (!status || !leaving.includes(status.state)) {
        const where = status ? `stays in ${stateName(status.state)}` : 'refuses GETSTATUS while it should leave';
        throw this.#fault('LEAVE_FAILED', `the device ${where}`);
      }
    } catch (error) {
      if (isGone(error)) return; // it has left by design
      if (isTimeout(error))
        throw this.#fault('LEAVE_FAILED', 'the device does not answer while it should leave', error);
      throw error;
    }
  }

  async #select(alternate: number): Promise<void> {
    if (this.#alternate === alternate) return;
    await this.port.selectAlternateInterface(0, alternate);
    this.#alternate = alternate;
  }

  /**
   * The pointer survives alternate settings and ABORT, and begins elsewhere: it is always set. To read, the device has to
   * be in dfuIDLE: the ABORT with which a read begins brings it there from dfuDNLOAD-SYNC, in which the command leaves it,
   * without the GETSTATUS that would bring it to dfuDNLOAD-IDLE first.
   */
  async #setPointer(alternate: number, address: number, purpose: 'to-read' | 'to-write'): Promise<void> {
    const failed = (): Fault => this.#fault('DFU_PROTOCOL', `the device refused the address ${hexAddress(address)}`);
    // The command runs in the GETSTATUS, which is asked for with it.
    const [, , status] = await Promise.all([
      this.#select(alternate),
      this.#send(0, setPointerCommand(address)),
      this.#statusOrStall(WRITE_TIMEOUT_MS),
    ]);
    if (purpose === 'to-write') {
      await this.#settle(0, failed, status);
      return;
    }
    if (status === null || status.status !== 0) throw failed();
    if (status.state === STATE.DNBUSY) await this.#pause(status);
    else if (status.state !== STATE.DNLOAD_IDLE) throw this.#astray(0, status);
  }

  /** DNLOAD, then GETSTATUS until the device is no longer busy. */
  async #download(block: number, bytes: Uint8Array, failed: () => Fault, sent?: FailPoint): Promise<void> {
    await this.#send(block, bytes);
    if (sent) failPoint(sent);
    await this.#settle(block, failed);
  }

  async #send(block: number, bytes: Uint8Array): Promise<void> {
    const out = await this.port.controlTransferOut(dfuSetup('DNLOAD', block), bytes, TRANSFER_TIMEOUT_MS);
    if (out.status === 'stall') throw this.#fault('DFU_PROTOCOL', `the device refused block ${block} (DNLOAD stalled)`);
    if (out.bytesWritten !== bytes.length) {
      throw this.#fault(
        'DFU_PROTOCOL',
        `the device took ${out.bytesWritten} of ${bytes.length} bytes of block ${block}`,
      );
    }
  }

  /** @param first the answer to the first GETSTATUS, where it was asked already */
  async #settle(block: number, failed: () => Fault, first?: DfuStatus | null): Promise<void> {
    for (let poll = 0; poll < MAX_BUSY_POLLS; poll += 1) {
      const asked = poll === 0 && first !== undefined;
      const status = asked ? first : await this.#statusOrStall(WRITE_TIMEOUT_MS);
      if (status === null || status.status !== 0) throw failed();
      if (status.state === STATE.DNLOAD_IDLE) return;
      if (status.state !== STATE.DNBUSY && status.state !== STATE.DNLOAD_SYNC) {
        throw this.#astray(block, status);
      }
      await this.#pause(status);
    }
    throw this.#fault('DFU_PROTOCOL', `the device stays busy after block ${block}`);
  }

  #astray(block: number, { state }: DfuStatus): Fault {
    return this.#fault('DFU_PROTOCOL', `after block ${block} the device is in ${stateName(state)}`);
  }

  /** bwPollTimeout, as long as the device says that it is busy. */
  async #pause({ pollTimeoutMs }: DfuStatus): Promise<void> {
    if (pollTimeoutMs > 0) await this.#clock.sleep(Math.min(pollTimeoutMs, MAX_POLL_WAIT_MS));
  }

  /** GETSTATE; null where the device does not tell. */
  async #state(): Promise<number | null> {
    const answer = await this.port.controlTransferIn(dfuSetup('GETSTATE'), 1, TRANSFER_TIMEOUT_MS);
    return answer.status === 'stall' ? null : (answer.data[0] ?? null);
  }

  async #statusOrStall(timeoutMs: number): Promise<DfuStatus | null> {
    const answer = await this.port.controlTransferIn(dfuSetup('GETSTATUS'), 6, timeoutMs);
    if (answer.status === 'stall') return null;
    const status = parseStatus(answer.data);
    if (!status) throw this.#fault('DFU_PROTOCOL', `GETSTATUS gave ${answer.data.length} bytes instead of 6`);
    return status;
  }

  async #command(request: RequestName): Promise<void> {
    const out = await this.port.controlTransferOut(dfuSetup(request), new Uint8Array(0), TRANSFER_TIMEOUT_MS);
    if (out.status === 'stall') throw this.#fault('DFU_PROTOCOL', `the device refused ${request}`);
  }

  #fault(
    code: 'DFU_NOT_IDLE' | 'DEVICE_LEAVING' | 'DFU_PROTOCOL' | 'READ_FAILED' | 'WRITE_FAILED' | 'LEAVE_FAILED',
    message: string,
    cause?: unknown,
  ): Fault {
    return new Fault(code, message, { facts: { path: this.port.path }, cause });
  }
}

function unlessGone(error: unknown): void {
  if (isGone(error)) throw error;
}
