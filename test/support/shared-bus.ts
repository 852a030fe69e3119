import type { Clock } from '#src/core/clock.ts';
import { toFault } from '#src/core/errors.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import type { VirtualRack } from '#src/sim/virtual-rack.ts';
import type { UsbBus, UsbPort } from '#src/usb/port.ts';

const BUSY_PATIENCE_MS = 2000;
const BUSY_PAUSE_MS = 100;
const ON_THE_WIRE_MS = 20;

/**
 * A rack as one of several runs sees it over USB/IP: nobody is told who a device is before it is opened, nor of devices
 * that come (only of those that it has given back), and what another one has open is not there. One that is held is waited for a little, as usbip-port.ts does.
 */
export function sharedBus(rack: VirtualRack, clock: Clock, bus: UsbBus = simBus(rack)): UsbBus {
  const opened = new Set<UsbPort>();
  const listeners = new Set<() => void>();
  const onEnded = (): void => {
    for (const listener of [...listeners]) listener();
  };
  return {
    name: bus.name,
    async list() {
      const ports = await bus.list();
      for (const port of [...opened]) if (!port.opened) opened.delete(port);
      const own = new Map([...opened].map(port => [port.path, port]));
      const isFree = ({ path }: UsbPort): boolean => !rack.devices.some(({ busId, held }) => busId === path && held);
      return ports.flatMap(
        port => own.get(port.path) ?? (isFree(port) ? silentUntilOpen(port, opened, clock, onEnded) : []),
      );
    },
    onChange(listener) {
      const own = (): void => listener();
      listeners.add(own);
      return () => listeners.delete(own);
    },
    close: () => bus.close(),
  };
}

function silentUntilOpen(port: UsbPort, opened: Set<UsbPort>, clock: Clock, onEnded: () => void): UsbPort {
  const open = async (): Promise<void> => {
    const giveUpAt = clock.monotonicMs() + BUSY_PATIENCE_MS;
    for (;;) {
      try {
        await port.open();
        opened.add(silent);
        return;
      } catch (error) {
        if (toFault(error).code !== 'USB_BUSY' || clock.monotonicMs() >= giveUpAt) throw error;
        await clock.sleep(BUSY_PAUSE_MS);
      }
    }
  };
  const silent: UsbPort = new Proxy(port, {
    get(of, name) {
      if (name === 'serialNumber') return of.opened ? of.serialNumber : undefined;
      if (name === 'open') return open;
      const member: unknown = Reflect.get(of, name, of);
      if (typeof member !== 'function') return member;
      return async (...args: unknown[]): Promise<unknown> => {
        if (String(name).startsWith('controlTransfer')) await clock.sleep(ON_THE_WIRE_MS);
        const result = (await Reflect.apply(member, of, args)) as unknown;
        if (name === 'close' || name === 'reset') onEnded();
        return result;
      };
    },
  });
  return silent;
}
