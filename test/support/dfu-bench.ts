import { DfuDevice } from '#src/dfu/dfu-device.ts';
import type { RequestLine } from '#src/sim/photon-record.ts';
import type { RackDevice } from '#src/sim/rack-device.ts';
import { parseFault } from '#src/sim/rack-faults.ts';
import { simBus } from '#src/sim/sim-bus.ts';
import { createRack, type RackOptions } from '#src/sim/virtual-rack.ts';
import type { UsbPort } from '#src/usb/port.ts';
import { QuickClock } from './quick-clock.ts';

/** A block of DNLOAD as it went over the wire. */
export interface Sent {
  readonly block: number;
  readonly data: Uint8Array;
}

export interface DfuBench {
  readonly device: DfuDevice;
  readonly on: RackDevice;
  readonly port: UsbPort;
  readonly clock: QuickClock;
  /** Every DNLOAD so far. */
  readonly sent: readonly Sent[];
  /** What the device was asked since it was opened, or since the last call: `dnload 2 +1600`, `getstatus stall`. */
  readonly asked: () => string[];
}

/** One virtual Photon on a rack of its own, and its port, whose blocks are seen as they pass. */
export async function benchPort(
  fault: string | null = null,
  rack: Partial<RackOptions> = {},
): Promise<{ port: UsbPort; on: RackDevice; sent: Sent[] }> {
  const made = await createRack({
    count: 1,
    hubs: 1,
    writeMs: 0,
    keys: 'blank',
    ...(fault !== null && { faults: [parseFault(`#1:${fault}`)] }),
    ...rack,
  });
  const [port] = await simBus(made).list();
  const on = made.devices[0]!;
  const sent: Sent[] = [];
  const out = port!.controlTransferOut.bind(port);
  port!.controlTransferOut = (setup, data, timeoutMs) => {
    if (setup.requestType === 'class' && setup.request === 1) sent.push({ block: setup.value, data: data.slice() });
    return out(setup, data, timeoutMs);
  };
  return { port: port!, on, sent };
}

/** The same, opened. */
export async function dfuBench(fault: string | null = null, rack: Partial<RackOptions> = {}): Promise<DfuBench> {
  const { port, on, sent } = await benchPort(fault, rack);
  const clock = new QuickClock();
  const device = await DfuDevice.open(port, clock);
  let seen = on.photon.record.lines.length;
  return {
    device,
    on,
    port,
    clock,
    sent,
    asked: () => {
      const lines = on.photon.record.lines.slice(seen);
      seen = on.photon.record.lines.length;
      return lines.map(lineText);
    },
  };
}

function lineText({ name, value, length, reply }: RequestLine): string {
  const what =
    name === 'other' ? `select ${value}` : name === 'dnload' || name === 'upload' ? `${name} ${value}` : name;
  const size = name === 'dnload' || name === 'upload' ? ` +${length}` : '';
  return `${what}${size}${reply === 'ok' ? '' : ` ${reply}`}`;
}
