import { Fault } from '#src/core/errors.ts';
import { hubOf, type UsbPath } from '#src/core/usb-path.ts';
import type { RackDevice } from '#src/sim/rack-device.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import type { VirtualRack } from '#src/sim/virtual-rack.ts';
import type { UsbBus, UsbPort } from '#src/usb/port.ts';

/** A rack whose devices a hand plugs from one socket into another, which the rack itself knows nothing of. */
export class SocketsBus implements UsbBus {
  readonly name = 'sim';
  readonly #rack: VirtualRack;
  readonly #bus: UsbBus;
  readonly #sockets = new Map<UsbPath, UsbPath>();

  constructor(rack: VirtualRack) {
    this.#rack = rack;
    this.#bus = simBus(rack);
  }

  /** Pulls a device out, and whichever hangs in that socket too. */
  plug(device: RackDevice, into: UsbPath): void {
    for (const { busId } of this.#rack.devices) if (this.#socketOf(busId) === into) this.#rack.unplug(busId);
    this.#rack.unplug(device.busId);
    this.#sockets.set(device.busId, into);
    this.#rack.plug(device.busId);
  }

  async list(): Promise<UsbPort[]> {
    return (await this.#bus.list()).map(port => portAt(port, this.#socketOf(port.path)));
  }

  onChange(listener: () => void): () => void {
    return this.#bus.onChange(listener);
  }

  close(): Promise<void> {
    return this.#bus.close();
  }

  #socketOf(busId: UsbPath): UsbPath {
    return this.#sockets.get(busId) ?? busId;
  }
}

function portAt(port: UsbPort, path: UsbPath): UsbPort {
  return new Proxy(port, {
    get(of, name) {
      if (name === 'path') return path;
      if (name === 'hub') return hubOf(path);
      const member: unknown = Reflect.get(of, name, of);
      if (typeof member !== 'function') return member;
      return async (...args: unknown[]): Promise<unknown> => {
        try {
          return (await Reflect.apply(member, of, args)) as unknown;
        } catch (error) {
          throw error instanceof Fault ? faultAt(error, of.path, path) : error;
        }
      };
    },
  });
}

/** What a port says names its own socket. */
function faultAt({ code, message, facts, hint, cause }: Fault, own: UsbPath, path: UsbPath): Fault {
  return new Fault(code, message.replaceAll(own, path), { facts: { ...facts, path }, hint, cause });
}
