import { Fault } from '#src/core/errors.ts';
import type { CloudClient } from '#src/cloud/client.ts';
import type { UsbBus, UsbPort } from '#src/usb/port.ts';

/**
 * A process that dies at its nth act: everything that would reach the record, a device or the cloud counts as two acts,
 * the one before it and the one after it. From then on nothing gets through any more.
 */
export class Cut {
  #left: number;
  dead = false;

  /** @param after so many acts get through; Infinity: it never dies */
  constructor(after: number) {
    this.#left = after;
  }

  pass(): void {
    if (!this.dead && this.#left > 0) {
      this.#left -= 1;
      return;
    }
    this.dead = true;
    throw new Fault('DB_FAILED', 'the process is dead');
  }

  async around<T>(act: () => Promise<T>): Promise<T> {
    this.pass();
    const result = await act();
    this.pass();
    return result;
  }

  /** Every method of an object with asynchronous methods only. */
  methods<T extends object>(real: T): T {
    return new Proxy(real, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]) => this.around(() => Reflect.apply(member, target, args) as Promise<unknown>);
      },
    });
  }

  client(real: CloudClient): CloudClient {
    return this.methods(real);
  }

  bus(real: UsbBus): UsbBus {
    return {
      name: real.name,
      list: async () => (await real.list()).map(port => this.#port(port)),
      onChange: listener => real.onChange(listener),
      close: () => real.close(),
    };
  }

  /** Closing is what a kernel does for a process that has died. */
  #port(real: UsbPort): UsbPort {
    return new Proxy(real, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        const call = (...args: unknown[]): Promise<unknown> => Reflect.apply(member, target, args) as Promise<unknown>;
        return name === 'close' ? call : (...args: unknown[]) => this.around(() => call(...args));
      },
    });
  }
}
