import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { serveRack } from '#src/sim/usbip-server.ts';
import { createRack, type VirtualRack } from '#src/sim/virtual-rack.ts';
import type { UsbBus, UsbPort } from '#src/usb/port.ts';
import { localBus } from '#src/usb/webusb.ts';
import { until } from './until.ts';
import { allUnplugged, kernelDevices, pathOf, plugIn } from './vhci.ts';

const VENDOR = 0x2b04;
export const WRITE_MS = 600;

/** Resolves when udev has nothing left to do, so that device nodes have the rights that they keep. */
export async function udevSettled(): Promise<void> {
  await promisify(execFile)('udevadm', ['settle', '--timeout=30']);
}

/** Two virtual Photons that hang on this machine's kernel, on two hubs. */
export class KernelBench {
  readonly writeMs = WRITE_MS;
  readonly bus: UsbBus;
  readonly otherBus: UsbBus;
  readonly rack: VirtualRack;
  readonly server: Awaited<ReturnType<typeof serveRack>>;
  readonly #buses: UsbBus[] = [];
  #changes = 0;
  /** As many changes as udev must have told of before the bus is looked at. */
  #expected = 0;

  private constructor(rack: VirtualRack, server: KernelBench['server']) {
    this.rack = rack;
    this.server = server;
    this.bus = this.#photons(port => port);
    // A kernel says who holds a device when its interface is claimed, and lets anybody open it.
    this.otherBus = this.#photons(port => {
      const open = port.open.bind(port);
      port.open = async () => {
        await open();
        await port.claimInterface(0);
      };
      return port;
    });
    this.bus.onChange(() => {
      this.#changes += 1;
    });
  }

  static async make(): Promise<KernelBench> {
    const rack = await createRack({ count: 2, hubs: 2, writeMs: WRITE_MS, keys: 'blank' });
    const bench = new KernelBench(rack, await serveRack(rack, { host: '127.0.0.1', port: 0 }));
    await plugIn(
      bench.server,
      rack.devices.map(({ busId }, hub) => ({ busId, place: { hub, port: 0 } })),
    );
    await udevSettled();
    return bench;
  }

  /** What udev has told of so far. */
  get changes(): number {
    return this.#changes;
  }

  unplugFirst(): void {
    this.#expected = this.#changes + 1;
    this.rack.unplug(this.rack.devices[0]!.busId);
  }

  async close(): Promise<void> {
    for (const bus of this.#buses) await bus.close();
    await this.server.close();
    await this.rack.close();
    await allUnplugged();
  }

  /** This machine's bus, the Photons on it alone, after the kernel has seen what the rack did. */
  #photons(adapt: (port: UsbPort) => UsbPort): UsbBus {
    const bus = localBus();
    this.#buses.push(bus);
    return {
      name: bus.name,
      onChange: listener => bus.onChange(listener),
      close: () => bus.close(),
      list: async () => {
        await this.#keptUp();
        const ports = (await bus.list()).filter(({ vendorId }) => vendorId === VENDOR);
        return ports.map(port => adapt(this.#heardByDevice(port)));
      },
    };
  }

  async #keptUp(): Promise<void> {
    const there = this.rack.devices.filter(({ onBus }) => onBus).length;
    await until('the kernel to follow the rack', async () => (await kernelDevices()).length === there);
    await until('udev to tell of it', () => this.#changes >= this.#expected);
  }

  /** USB/IP has no bus reset: the kernel resets its own port, and the bench tells the device. */
  #heardByDevice(port: UsbPort): UsbPort {
    const reset = port.reset.bind(port);
    port.reset = async () => {
      await reset();
      for (const [hub, { photon }] of this.rack.devices.entries()) {
        if ((await pathOf({ hub, port: 0 })) === port.path) await photon.busReset();
      }
    };
    return port;
  }
}
