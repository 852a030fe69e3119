import { simBus } from '#src/sim/sim-bus.ts';
import { serveRack } from '#src/sim/usbip-server.ts';
import { createRack } from '#src/sim/virtual-rack.ts';
import { rackBus } from '#src/usb/usbip.ts';
import { usbPortContract } from './usb-port.contract.ts';

const WRITE_MS = 120;

async function rackOfTwo() {
  return await createRack({ count: 2, hubs: 2, writeMs: WRITE_MS, keys: 'blank' });
}

usbPortContract('the virtual rack in this process', async () => {
  const rack = await rackOfTwo();
  const [bus, otherBus] = [simBus(rack), simBus(rack)];
  return {
    bus,
    otherBus,
    writeMs: WRITE_MS,
    unplugFirst: () => rack.unplug('1-1.1'),
    async close() {
      await bus.close();
      await otherBus.close();
      await rack.close();
    },
  };
});

usbPortContract('a rack over USB/IP', async () => {
  const rack = await rackOfTwo();
  const server = await serveRack(rack, { host: '127.0.0.1', port: 0 });
  const [bus, otherBus] = [rackBus(server), rackBus(server)];
  return {
    bus,
    otherBus,
    writeMs: WRITE_MS,
    unplugFirst: () => rack.unplug('1-1.1'),
    async close() {
      await bus.close();
      await otherBus.close();
      await server.close();
      await rack.close();
    },
  };
});
