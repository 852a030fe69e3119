import { setMaxListeners } from 'node:events';
import { DCT } from '../photon/dct.ts';
import { systemClock, type Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device-id.ts';
import { isIn, PORT_RESET, type SetupPacket } from '../usb/setup-packet.ts';
import type { Behaviour, Grip } from './photon-behaviour.ts';
import type { DescriptorFlaw, PhotonIdentity, Platform, Product, UsbMode } from './photon-descriptors.ts';
import { DfuMachine } from './photon-dfu.ts';
import { Moment, orMoment, Turns } from './photon-ep0.ts';
import type { Flash } from './photon-flash.ts';
import type { MediaResult } from './photon-media.ts';
import { PhotonMemory, type Serving } from './photon-memory.ts';
import { systemPartsWhole } from './photon-modules.ts';
import { NormalMode } from './photon-normal.ts';
import { CANCELLED, GONE, isDfu, nameOf, STALL, type DeviceRequest, type Reply } from './photon-request.ts';
import { PhotonRecord } from './photon-record.ts';
import { StandardRequests } from './photon-standard.ts';

/**
 * Why a device is no longer on the bus. `left` and `power-cut`: it starts its firmware and is in normal mode when it is
 * next seen. `reset`: it was in normal mode, and is in DFU mode then.
 */
export type Departure = 'unplugged' | 'left' | 'crashed' | 'power-cut' | 'reset';

/** DFU 1.1, 6.1.2: appIDLE, the state of a device that is not in DFU mode. */
const APP_IDLE = 0;

export interface PhotonOptions {
  readonly deviceId: DeviceId;
  readonly platform: Platform;
  readonly bootloader: 'new' | 'old';
  /** What iSerialNumber says in DFU mode; null: there is none. */
  readonly serial: string | null;
  /** What it says in normal mode. */
  readonly normalSerial: string;
  readonly product: Product;
  readonly descriptorFlaws?: readonly DescriptorFlaw[] | undefined;
  readonly internal: Flash;
  readonly serialFlash: Flash;
  /** Time that a DCT block takes, in ms; a block of plain flash takes an eighth, an erase as much. */
  readonly writeMs: number;
  /** From the GETSTATUS of a leave until the device is gone, in ms. The real one: 500. */
  readonly leaveMs?: number | undefined;
  /** From being told in normal mode to enter DFU mode until the device is gone, in ms. The real one: 1000. */
  readonly resetMs?: number | undefined;
  /** In normal mode it stalls every way into DFU mode. */
  readonly deaf?: boolean | undefined;
  /** The DFU state in which it is found when first powered. */
  readonly startState?: number | undefined;
  /** Laid on top of DFU mode; normal mode has none. */
  readonly behaviours?: readonly Behaviour[] | undefined;
  readonly clock?: Clock | undefined;
  /**
   * Told when the device leaves the bus by itself.
   * @param backInMs when it is to be powered again; undefined: when somebody does so
   */
  onDeparture?(why: Departure, backInMs: number | undefined): void;
}

/** From one powerOn to the next powerOff. */
interface Power {
  readonly off: Moment;
  readonly signal: AbortSignal;
}

/** `hung`: it does not answer any more. */
type Answer = Reply | 'hung' | Promise<Reply | 'hung'>;

/**
 * One Photon at the level of control transfers. In DFU mode it does what the vendor's bootloader does (device-os: its
 * bootloader and USB DFU sources), in the time that it takes, and serves one transfer after the other, as endpoint 0 does.
 * In normal mode it is what `NormalMode` says. Whoever powers it says which; it never changes while it is powered.
 */
export class VirtualPhoton {
  readonly deviceId: DeviceId;
  readonly record = new PhotonRecord();
  readonly #options: PhotonOptions;
  readonly #clock: Clock;
  readonly #memory: PhotonMemory;
  readonly #dfu: DfuMachine;
  readonly #standard: StandardRequests;
  readonly #dfuIdentity: PhotonIdentity;
  readonly #normal: NormalMode;
  #mode: UsbMode = 'dfu';
  readonly #turns = new Turns();
  /** Comes when the power goes; null while off. */
  #power: Power | null = null;
  /** Comes when the host resets the bus; a new one after each. */
  #busReset = new Moment();
  /** The transfer being served; there is one at a time. */
  #serving: Serving | null = null;
  #hung = false;
  #orphanedStall = false;
  #firstPower = true;

  constructor(options: PhotonOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.deviceId = options.deviceId;
    const old = options.bootloader === 'old';
    const { platform, bootloader, product, serial, internal, serialFlash, writeMs } = options;
    const flaws = options.descriptorFlaws ?? [];
    this.#dfuIdentity = { mode: 'dfu', platform, release: old ? 0x0200 : 0x0250, serial, product, flaws };
    this.#normal = new NormalMode({
      platform,
      serial: options.normalSerial,
      internal,
      deaf: options.deaf ?? false,
      enteringDfu: () => this.#departIn(options.resetMs ?? 1000, 'reset'),
    });
    this.#memory = new PhotonMemory({
      platform,
      bootloader,
      product,
      internal,
      serialFlash,
      writeMs,
      behaviours: options.behaviours ?? [],
      clock: this.#clock,
      record: this.record,
    });
    this.#dfu = new DfuMachine(
      {
        media: alternate => this.#memory.media(alternate),
        write: (alternate, address, data) =>
          this.#inTransfer(serving => this.#memory.write({ alternate, address, data }, serving)),
        erase: (alternate, address) => this.#inTransfer(serving => this.#memory.erase(alternate, address, serving)),
        read: (alternate, address, length) => this.#memory.read(alternate, address, length),
        overrun: bytes => {
          this.record.violation(`DNLOAD of ${bytes} bytes: memory behind the 4096-byte buffer is overwritten`);
          this.#depart('crashed');
        },
        leaving: () => this.#departIn(options.leaveMs ?? 500, 'left'),
      },
      old,
    );
    this.#standard = new StandardRequests(this.#dfuIdentity, this.#dfu);
    this.powerOn();
  }

  get onBus(): boolean {
    return this.#power !== null;
  }

  /** The mode in which it is, or in which it last was on the bus. */
  get mode(): UsbMode {
    return this.#mode;
  }

  /** What it says it is, in this mode. */
  get identity(): PhotonIdentity {
    return this.#mode === 'dfu' ? this.#dfuIdentity : this.#normal.identity;
  }

  /** Where a reset takes it. Without whole system parts newer bootloaders stay, older ones start what is not there. */
  get bootsInto(): UsbMode | 'dead' {
    const { internal, platform, bootloader } = this.#options;
    if (systemPartsWhole(internal, platform)) return 'normal';
    return bootloader === 'new' ? 'dfu' : 'dead';
  }

  get dfuState(): number {
    return this.#mode === 'dfu' ? this.#dfu.state : APP_IDLE;
  }

  /** The DCT as it lies in its flash, 8391 bytes: for whoever looks at the device, not for a host. */
  dct(): Buffer {
    return this.#memory.dct.read(0, DCT.LENGTH);
  }

  /** Sectors rewritten by DCT blocks since it was made. */
  get dctRewrites(): number {
    return this.#memory.dct.rewrites;
  }

  /** On the bus: the bootloader, or the firmware, starts anew. */
  powerOn(mode: UsbMode = 'dfu'): void {
    if (this.#power) return;
    this.#mode = mode;
    const abort = new AbortController();
    setMaxListeners(0, abort.signal);
    const off = new Moment();
    off.tell(() => abort.abort());
    this.#power = { off, signal: abort.signal };
    this.#hung = false;
    this.#orphanedStall = false;
    if (mode === 'normal') {
      this.#normal.powerOn();
      return;
    }
    this.#memory.powerOn();
    this.#dfu.powerOn();
    this.#standard.powerOn();
    for (const behaviour of this.#options.behaviours ?? []) behaviour.reset?.();
    if (this.#firstPower && this.#options.startState !== undefined) this.#dfu.beginIn(this.#options.startState);
    this.#firstPower = false;
  }

  /** The cable is pulled, or the power fails: transfers under way end as `gone`, and a write that has not ended is lost. */
  powerOff(): void {
    const power = this.#power;
    this.#power = null;
    power?.off.come();
  }

  /**
   * A reset of the bus by the host, which ends what it waits for (Linux: usb_ep0_reinit, with -ESHUTDOWN). The device
   * takes it in its turn, after a write that is under way: DFU is idle again, alternate setting 0; the pointer stays.
   */
  async busReset(): Promise<void> {
    const power = this.#power;
    if (!power) return;
    const ended = this.#busReset;
    this.#busReset = new Moment();
    setImmediate(() => ended.come()); // what is answered at once has its answer by then
    const turn = this.#turns.take();
    const gone = await orMoment(
      (turn.ready ?? Promise.resolve()).then(() => false),
      [power.off, true],
    );
    if (!gone && this.#mode === 'normal') this.#normal.reset();
    else if (!gone) {
      this.#orphanedStall = false;
      this.#dfu.reset();
      for (const behaviour of this.#options.behaviours ?? []) behaviour.reset?.();
    }
    turn.end();
  }

  /**
   * One control transfer.
   * @param data the data stage of an OUT transfer, setup.length bytes
   * @param cancel comes when the host gives up: the reply is `cancelled`, but what has begun goes on
   */
  async control(setup: SetupPacket, data: Uint8Array, cancel?: AbortSignal | Moment): Promise<Reply> {
    const power = this.#power;
    if (!power) return GONE;
    if (isPortReset(setup)) {
      await this.busReset();
      return { kind: 'ok', data: new Uint8Array(0) };
    }
    if (cancel instanceof Moment) return await this.#inTurn(setup, data, power, cancel);
    const cancelled = new Moment();
    const onAbort = () => cancelled.come();
    if (cancel?.aborted) onAbort();
    else cancel?.addEventListener('abort', onAbort, { once: true });
    try {
      return await this.#inTurn(setup, data, power, cancelled);
    } finally {
      cancel?.removeEventListener('abort', onAbort);
    }
  }

  async #inTurn(setup: SetupPacket, data: Uint8Array, power: Power, cancelled: Moment): Promise<Reply> {
    const reset = this.#busReset;
    const ends = [
      [power.off, GONE],
      [reset, GONE],
      [cancelled, CANCELLED],
    ] as const;
    const turn = this.#turns.take();
    if (turn.ready || cancelled.came) {
      this.#turns.waiting += 1;
      const ready = turn.ready ?? Promise.resolve();
      const stopped = await orMoment(
        ready.then(() => null),
        ...ends,
      );
      this.#turns.waiting -= 1;
      if (stopped) {
        turn.end();
        return stopped;
      }
    }
    const request = { name: nameOf(setup), setup, data };
    const grip = this.#grip(power.off, reset, cancelled);
    const served = this.#serve(request, { off: power.off, offSignal: power.signal, grip }, cancelled);
    // Nearly everything is answered at once: only flash takes time, and faults do.
    if (!(served instanceof Promise)) turn.end();
    const reply =
      served instanceof Promise
        ? await orMoment(
            served.finally(() => turn.end()),
            ...ends,
          )
        : power.off.came
          ? GONE // by what it was asked for
          : served;
    this.record.request(request, reply, this.dfuState);
    return reply;
  }

  #serve(request: DeviceRequest, serving: Serving, cancelled: Moment): Reply | Promise<Reply> {
    if (this.#mode === 'normal') return this.#normal.answer(request);
    this.#serving = serving;
    if (this.#orphanedStall) {
      this.#orphanedStall = false;
      return STALL;
    }
    const behaviours = this.#options.behaviours ?? [];
    if (behaviours.length > 0) return this.#serveBelow(behaviours, request, serving, cancelled);
    const answer = this.#hung ? 'hung' : this.#answer(request);
    if (answer === 'hung' || answer instanceof Promise) return this.#serveLong(answer, serving, cancelled);
    return answer;
  }

  async #serveBelow(
    behaviours: readonly Behaviour[],
    request: DeviceRequest,
    serving: Serving,
    cancelled: Moment,
  ): Promise<Reply> {
    let pass = (): Promise<Reply> => this.#untilAnswered(this.#hung ? 'hung' : this.#answer(request), serving);
    for (const behaviour of behaviours) {
      const below = pass;
      pass = () => behaviour.request?.(request, below, serving.grip) ?? below();
    }
    return this.#told(await pass(), cancelled);
  }

  async #serveLong(answer: Answer, serving: Serving, cancelled: Moment): Promise<Reply> {
    return this.#told(await this.#untilAnswered(answer, serving), cancelled);
  }

  async #untilAnswered(answer: Answer, { grip }: Serving): Promise<Reply> {
    const reply = await answer;
    if (reply !== 'hung') return reply;
    this.#hung = true;
    await grip.untilGivenUp();
    return CANCELLED;
  }

  /** The host no longer waits for a write that has failed: its stall hits the transfer that is pending now. */
  #told(reply: Reply, cancelled: Moment): Reply {
    if (reply.kind === 'stall' && cancelled.came && this.#turns.waiting > 0) this.#orphanedStall = true;
    return reply;
  }

  #answer(request: DeviceRequest): Answer {
    const { setup } = request;
    if (!isDfu(setup)) return this.#standard.answer(setup);
    if (!this.#standard.configured || (setup.index & 0xff) !== 0) return STALL;
    const answer = this.#dfu.handle(request);
    return answer instanceof Promise ? answer.then(reply => cut(reply, setup)) : cut(answer, setup);
  }

  #grip(off: Moment, reset: Moment, cancelled: Moment): Grip {
    const never = new Promise<undefined>(() => undefined);
    return {
      unplug: backInMs => {
        if (!off.came) this.#depart('unplugged', backInMs);
      },
      cutPower: () => {
        if (!off.came) this.#depart('power-cut');
      },
      untilGivenUp: () => orMoment(never, [off, undefined], [reset, undefined], [cancelled, undefined]),
    };
  }

  async #inTransfer(act: (serving: Serving) => Promise<MediaResult>): Promise<MediaResult> {
    return this.#serving ? await act(this.#serving) : 'failed';
  }

  #departIn(ms: number, why: Departure): void {
    const power = this.#power;
    if (!power) return;
    void this.#clock.sleep(ms, power.signal).then(() => {
      if (!power.off.came) this.#depart(why);
    });
  }

  #depart(why: Departure, backInMs?: number): void {
    if (!this.#power) return;
    this.powerOff();
    this.#options.onDeparture?.(why, backInMs);
  }
}

/** A host gets no more than it asked for. */
function cut(reply: Reply | 'hung', setup: SetupPacket): Reply | 'hung' {
  if (reply === 'hung' || reply.kind !== 'ok' || !isIn(setup)) return reply;
  return { kind: 'ok', data: reply.data.subarray(0, setup.length) };
}

function isPortReset({ requestType, request, value }: SetupPacket): boolean {
  return requestType === PORT_RESET.requestType && request === PORT_RESET.request && value === PORT_RESET.value;
}
