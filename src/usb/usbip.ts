import { systemClock, type Clock } from '../core/clock.ts';
import type { UsbBus, UsbPort } from './port.ts';
import { exchange, hangUp, rackName, type RackAddress } from './usbip-dial.ts';
import { encodeListRequest, takeListReply } from './usbip-operations.ts';
import { UsbipPort } from './usbip-port.ts';

/**
 * The devices of another host (`--rack HOST:PORT`), which runs Linux's `usbipd` or `photon-fleet sim rack`: a USB/IP
 * client in user space, without any kernel support here. USB/IP tells nobody of devices that come, so a caller lists
 * from time to time; `onChange` calls back when an opened one has gone.
 */
export function rackBus(options: RackAddress & { readonly clock?: Clock }): UsbBus {
  const { host, port, clock = systemClock } = options;
  const rack = { host, port };
  const open = new Set<UsbPort>();
  const listeners = new Set<() => void>();
  const devlist = async (): Promise<UsbPort[]> => {
    const { answer, socket } = await exchange(rack, encodeListRequest(), takeListReply, clock);
    await hangUp(socket);
    return answer.map(
      listed =>
        new UsbipPort({
          rack,
          listed,
          clock,
          onOpened: opened => open.add(opened),
          onEnded: ended => {
            open.delete(ended);
            for (const listener of [...listeners]) listener();
          },
        }),
    );
  };
  return {
    name: rackName(rack),

    /**
     * Throws RACK_UNREACHABLE, RACK_PROTOCOL. Serial numbers are not known before `open`. Linux's usbipd leaves out what
     * is imported: what this bus itself has open is there all the same.
     */
    async list() {
      for (;;) {
        const before = [...open];
        const ports = await devlist();
        const isListed = (held: UsbPort): boolean => ports.some(({ path }) => path === held.path);
        // Given back while the answer was on its way: whether it is still there, the next answer tells.
        if (before.some(held => !open.has(held) && !isListed(held))) continue;
        return [...ports, ...[...open].filter(held => !isListed(held))];
      }
    },

    onChange(listener) {
      const own = () => listener();
      listeners.add(own);
      return () => listeners.delete(own);
    },

    async close() {
      listeners.clear();
      await Promise.all([...open].map(each => each.close()));
    },
  };
}
