import { describe, expect, test } from 'vitest';
import { lookedAt } from '#src/cli/looked-at.ts';
import { Fault } from '#src/core/errors.ts';
import type { UsbBus, UsbPort } from '#src/usb/port.ts';
import { ScriptedPort } from '../support/scripted-port.ts';
import { ManualClock } from './sim-bench.ts';

/** A bus with one device, which counts the looks at it; each takes 40 ms. */
class Bus implements UsbBus {
  readonly name = 'scripted';
  readonly tellsOfArrivals: boolean;
  readonly clock = new ManualClock();
  readonly listeners = new Set<() => void>();
  readonly trouble: Fault | null;
  looks = 0;
  closed = false;

  constructor(trouble: Fault | null = null, tellsOfArrivals = true) {
    this.trouble = trouble;
    this.tellsOfArrivals = tellsOfArrivals;
  }

  async list(): Promise<UsbPort[]> {
    this.looks += 1;
    await this.clock.advance(40);
    if (this.trouble) throw this.trouble;
    return [new ScriptedPort()];
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

describe('a bus that was looked at', () => {
  test('tells the next who asks of that look, once, and how long it took', async () => {
    const bus = new Bus();
    const looked = await lookedAt(bus, bus.clock);
    expect([looked.lookedMs, await looked.list(), bus.looks]).toEqual([40, [expect.any(ScriptedPort)], 1]);
    expect([await looked.list(), bus.looks]).toEqual([[expect.any(ScriptedPort)], 2]);
  });

  test('is looked at anew after something came or went', async () => {
    const bus = new Bus();
    const looked = await lookedAt(bus, bus.clock);
    for (const listener of bus.listeners) listener();
    await looked.list();
    expect(bus.looks).toBe(2);
  });

  test('is looked at anew after 5 s', async () => {
    const bus = new Bus();
    const looked = await lookedAt(bus, bus.clock);
    await bus.clock.advance(5000);
    await looked.list();
    expect(bus.looks).toBe(2);
  });

  test('is listened to by whoever wants, and closed', async () => {
    const bus = new Bus();
    const looked = await lookedAt(bus, bus.clock);
    const unsubscribe = looked.onChange(() => undefined);
    expect(bus.listeners.size).toBe(2);
    unsubscribe();
    await looked.close();
    expect([bus.listeners.size, bus.closed]).toEqual([0, true]);
  });

  test('that does not tell of arrivals is looked at anew', async () => {
    const bus = new Bus(null, false);
    expect(await lookedAt(bus, bus.clock)).toBe(bus);
    expect([bus.looks, bus.listeners.size]).toEqual([1, 0]);
  });

  test('throws what the look throws, and listens no longer', async () => {
    const bus = new Bus(new Fault('USB_UNAVAILABLE', 'this machine has no USB'));
    await expect(lookedAt(bus, bus.clock)).rejects.toBe(bus.trouble);
    expect(bus.listeners.size).toBe(0);
  });
});
