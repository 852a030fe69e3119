import { REQUEST_NAMES, type DeviceRequest, type Reply, type RequestName } from './photon-request.ts';

/** One transfer that has ended, as the device saw it. Never the data: they may be keys. */
export interface RequestLine {
  readonly name: RequestName;
  readonly request: number;
  readonly value: number;
  readonly index: number;
  readonly length: number;
  readonly reply: Reply['kind'];
  /** The DFU state afterwards. */
  readonly state: number;
}

const KEPT_LINES = 1000;

/** What was asked of a virtual device: counters over its whole life, and the newest 1000 transfers. */
export class PhotonRecord {
  readonly counts: Record<RequestName, number> = Object.fromEntries(REQUEST_NAMES.map(name => [name, 0])) as Record<
    RequestName,
    number
  >;
  /** Data blocks that reached the memory of an alternate setting, by its number. */
  readonly writes: [number, number, number] = [0, 0, 0];
  /** Addresses of the sectors that were erased, in their order; the DCT's, which does nothing, left out. */
  readonly erased: number[] = [];
  /** What a host did that would have harmed a real device. A test of a well-behaved host expects none. */
  readonly violations: string[] = [];
  readonly #lines: RequestLine[] = [];
  #listener: ((line: RequestLine) => void) | null = null;

  /** The newest transfers, oldest first. */
  get lines(): readonly RequestLine[] {
    return this.#lines;
  }

  /** Calls back for every transfer from now on; one listener, null takes it away. */
  listen(listener: ((line: RequestLine) => void) | null): void {
    this.#listener = listener;
  }

  request({ name, setup }: DeviceRequest, reply: Reply, state: number): void {
    const { request, value, index, length } = setup;
    const line = { name, request, value, index, length, reply: reply.kind, state };
    this.counts[name] += 1;
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
    this.#listener?.(line);
  }

  write(alternate: number): void {
    if (alternate === 0 || alternate === 1 || alternate === 2) this.writes[alternate] += 1;
  }

  violation(what: string): void {
    this.violations.push(what);
  }
}
