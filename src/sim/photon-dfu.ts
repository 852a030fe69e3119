import { isIn } from '../usb/setup-packet.ts';
import { TRANSFER_SIZE } from './photon-descriptors.ts';
import type { Media, MediaResult } from './photon-media.ts';
import { DONE, STALL, type DeviceRequest, type Reply } from './photon-request.ts';

/** DFU 1.1, table A.2 (6.1.2): the states that this bootloader knows. */
export const STATE = {
  idle: 2,
  downloadSync: 3,
  busy: 4,
  downloadIdle: 5,
  manifestSync: 6,
  manifest: 7,
  waitReset: 8,
  uploadIdle: 9,
  error: 10,
} as const;

const STATUS_OK = 0x00;
const STATUS_UNKNOWN = 0x0e;
/** What the vendor's code writes into the state when block 1 is asked for: a status number, and no state. */
const ILLEGAL_STATE = 15;
const FIRST_POINTER = 0x08020000;
const COMMAND = { getCommands: 0x00, setPointer: 0x21, erase: 0x41 } as const;

/** What the state machine needs of the device round it. */
export interface DfuSurroundings {
  /** The memory behind an alternate setting. */
  media(alternate: number): Media;
  /** Carries a data block out, with the time that it takes and the faults laid on top. */
  write(alternate: number, address: number, data: Uint8Array): Promise<MediaResult>;
  erase(alternate: number, address: number): Promise<MediaResult>;
  read(alternate: number, address: number, length: number): Uint8Array | 'hung';
  /** More than one buffer came in one DNLOAD: memory behind the buffer is overwritten. */
  overrun(bytes: number): void;
  /** The device has begun to leave DFU mode. */
  leaving(): void;
}

/**
 * The DFU state machine of the Photon's bootloader, which is ST's with its oddities:
 *
 *   2 idle ──DNLOAD──▶ 3 ──GETSTATUS: reports 4, and carries the command out in that very transfer──▶ 3
 *   3 with nothing pending ──GETSTATUS──▶ 5 ──DNLOAD──▶ 3 …
 *   2, 5 ──DNLOAD of nothing──▶ 6 ──GETSTATUS: reports 5 or 7──▶ 8, and a reset some 500 ms later
 *   2, 9 ──UPLOAD──▶ 9;  block 1 ──▶ 15;  2, 3, 5, 6, 9 ──ABORT──▶ 2;  10 ──CLRSTATUS──▶ 2;  all else ──CLRSTATUS──▶ 10
 */
export class DfuMachine {
  state: number = STATE.idle;
  alternate = 0;
  pointer = FIRST_POINTER;
  #status = STATUS_OK;
  #pollMs = 0;
  #pending: { block: number; data: Uint8Array } | null = null;
  #manifesting = false;
  /** Counts resets: a command that was under way at one must not touch the state afterwards. */
  #life = 0;
  readonly #around: DfuSurroundings;
  readonly #leaveReports: number;

  /** @param oldBootloader it reports state 7 when it leaves, newer ones 5 */
  constructor(around: DfuSurroundings, oldBootloader: boolean) {
    this.#around = around;
    this.#leaveReports = oldBootloader ? STATE.manifest : STATE.downloadIdle;
  }

  powerOn(): void {
    this.reset();
    this.pointer = FIRST_POINTER;
    this.#status = STATUS_OK;
    this.#pollMs = 0;
  }

  /** A reset of the bus, or a new configuration: idle and alternate setting 0; the pointer stays. */
  reset(): void {
    this.#life += 1;
    this.state = STATE.idle;
    this.alternate = 0;
    this.#pending = null;
    this.#manifesting = false;
  }

  /** Puts the machine where a device with a history may be found. */
  beginIn(state: number): void {
    this.state = state;
    if (state === STATE.error) this.#status = STATUS_UNKNOWN;
  }

  /** At once, but for what the flash takes its time for. */
  handle({ name, setup, data }: DeviceRequest): Reply | 'hung' | Promise<Reply | 'hung'> {
    const wantsIn = name === 'upload' || name === 'getstatus' || name === 'getstate';
    if (wantsIn !== isIn(setup)) return STALL;
    switch (name) {
      case 'dnload':
        return this.#download(setup.value, data);
      case 'upload':
        return this.#upload(setup.value, setup.length);
      case 'getstatus':
        return this.#getStatus();
      case 'clrstatus':
        this.#clearStatus();
        return DONE;
      case 'getstate':
        return { kind: 'ok', data: Uint8Array.of(this.state) };
      case 'abort':
      case 'detach':
        this.#abort();
        return DONE;
      default:
        return STALL;
    }
  }

  #download(block: number, data: Uint8Array): Reply {
    if (this.state !== STATE.idle && this.state !== STATE.downloadIdle) return STALL;
    if (data.length === 0) {
      this.#manifesting = true;
      this.state = STATE.manifestSync;
      return DONE;
    }
    if (data.length > TRANSFER_SIZE) this.#around.overrun(data.length);
    this.#pending = { block, data: Uint8Array.from(data) };
    this.state = STATE.downloadSync;
    return DONE;
  }

  #upload(block: number, length: number): Reply | 'hung' {
    if (length === 0) {
      this.state = STATE.idle;
      return DONE;
    }
    this.#pending = this.state === STATE.downloadSync ? null : this.#pending;
    if (this.state !== STATE.idle && this.state !== STATE.uploadIdle) return STALL;
    if (block === 1) {
      this.state = ILLEGAL_STATE;
      return STALL;
    }
    if (block === 0) {
      this.state = length > 3 ? STATE.idle : STATE.uploadIdle;
      return { kind: 'ok', data: Uint8Array.of(COMMAND.getCommands, COMMAND.setPointer, COMMAND.erase) };
    }
    this.state = STATE.uploadIdle;
    const data = this.#around.read(this.alternate, this.#addressOf(block), length);
    return data === 'hung' ? 'hung' : { kind: 'ok', data };
  }

  #getStatus(): Reply | 'hung' | Promise<Reply | 'hung'> {
    let reported: number | undefined;
    if (this.state === STATE.downloadSync) {
      if (this.#pending) {
        this.state = STATE.busy;
        const erase = this.#pending.block === 0 && this.#pending.data[0] === COMMAND.erase;
        // By the pointer as it is before the command is carried out; where that is not valid, the old value stays.
        this.#pollMs = this.#around.media(this.alternate).pollMs(this.pointer, erase) ?? this.#pollMs;
      } else this.state = STATE.downloadIdle;
    } else if (this.state === STATE.manifestSync && this.#manifesting) {
      this.state = STATE.manifest;
      reported = this.#leaveReports;
    } else if (this.state === STATE.manifest) this.state = STATE.idle;

    const { state } = this;
    const status = Uint8Array.of(this.#status, this.#pollMs & 0xff, this.#pollMs >> 8, 0, reported ?? state, 0);
    if (state === STATE.busy) {
      const life = this.#life;
      const pending = this.#pending;
      const ended = (result: MediaResult): Reply | 'hung' => {
        if (life !== this.#life) return STALL;
        this.#pending = null;
        this.state = STATE.downloadSync;
        if (result === 'hung') return 'hung';
        return result === 'failed' ? STALL : { kind: 'ok', data: status };
      };
      const result = pending ? this.#carryOut(pending.block, pending.data) : 'failed';
      return result instanceof Promise ? result.then(ended) : ended(result);
    } else if (state === STATE.manifest) {
      this.#manifesting = false;
      this.state = STATE.waitReset;
      this.#around.leaving();
    }
    return { kind: 'ok', data: status };
  }

  #carryOut(block: number, data: Uint8Array): MediaResult | Promise<MediaResult> {
    if (block === 1) return 'done'; // dropped, without an error
    if (block > 1) return this.#around.write(this.alternate, this.#addressOf(block), data);
    const [command] = data;
    if (command === COMMAND.getCommands && data.length === 1) return 'done';
    if ((command !== COMMAND.setPointer && command !== COMMAND.erase) || data.length !== 5) return 'failed';
    this.pointer = Buffer.from(data).readUInt32LE(1);
    return command === COMMAND.erase ? this.#around.erase(this.alternate, this.pointer) : 'done';
  }

  #addressOf(block: number): number {
    return (this.pointer + (block - 2) * TRANSFER_SIZE) >>> 0;
  }

  #clearStatus(): void {
    const wasError = this.state === STATE.error;
    this.state = wasError ? STATE.idle : STATE.error;
    this.#status = wasError ? STATUS_OK : STATUS_UNKNOWN;
  }

  #abort(): void {
    const stops: readonly number[] = [
      STATE.idle,
      STATE.downloadSync,
      STATE.downloadIdle,
      STATE.manifestSync,
      STATE.uploadIdle,
    ];
    if (!stops.includes(this.state)) return;
    this.state = STATE.idle;
    this.#status = STATUS_OK;
    this.#pending = null;
    this.#manifesting = false;
  }
}
