import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { hubOf, parseUsbPath } from '#src/core/usb-path.ts';
import type { ControlSetup, UsbBus, UsbPort } from '#src/usb/port.ts';

/** A bus with two Photons in DFU mode, both with bootloaders that say their IDs, and a hand that can unplug the first. */
export interface ContractBench {
  readonly bus: UsbBus;
  /** Another program's view of the same devices. */
  readonly otherBus: UsbBus;
  /** Pulls the first device's cable. */
  unplugFirst(): void | Promise<void>;
  /** How long a DCT write takes there, in ms; more than 100. */
  readonly writeMs: number;
  close(): Promise<void>;
}

const NONE = new Uint8Array(0);

function dfu(request: number, value = 0): ControlSetup {
  return { requestType: 'class', recipient: 'interface', request, value, index: 0 };
}

/** What every implementation of the seam to USB promises, with a Photon at the other end. */
export function usbPortContract(name: string, makeBench: () => Promise<ContractBench>): void {
  describe(`${name}, as a road to USB devices,`, () => {
    let made: ContractBench;
    let ports: UsbPort[];
    let port: UsbPort;
    beforeEach(async () => {
      made = await makeBench();
      ports = await made.bus.list();
      port = ports[0]!;
    });
    afterEach(async () => {
      await made.close();
    });

    async function opened(): Promise<void> {
      await port.open();
      await port.claimInterface(0);
    }

    async function status(timeoutMs = 20_000): Promise<number[] | 'stall'> {
      const result = await port.controlTransferIn(dfu(3), 6, timeoutMs);
      return result.status === 'ok' ? [...result.data] : 'stall';
    }

    async function serialNumber(): Promise<string> {
      const setup = { requestType: 'standard', recipient: 'device', request: 6, value: 0x303, index: 0x409 } as const;
      const result = await port.controlTransferIn(setup, 255, 5000);
      return result.status === 'ok' ? Buffer.from(result.data).toString('utf16le', 2) : 'stall';
    }

    async function point(address: number): Promise<void> {
      const command = Buffer.alloc(5, 0x21);
      command.writeUInt32LE(address, 1);
      await port.controlTransferOut(dfu(1), command, 5000);
      await status();
      await status();
    }

    test('lists every device with path, hub, IDs and release', () => {
      expect(ports).toHaveLength(2);
      for (const each of ports) {
        expect(parseUsbPath(each.path)).toBe(each.path);
        expect(each.hub).toBe(hubOf(each.path));
        expect(each).toMatchObject({ vendorId: 0x2b04, productId: 0xd006, release: 0x0250, opened: false });
      }
      expect(new Set(ports.map(({ path }) => path)).size).toBe(2);
    });

    test('names a device alike in every list, as long as it stays', async () => {
      const again = await made.bus.list();
      expect(again.map(({ path, instance }) => [path, instance])).toEqual(
        ports.map(({ path, instance }) => [path, instance]),
      );
    });

    test('tells the serial number as the device itself does, or leaves it to the device', async () => {
      await opened();
      expect(port.opened).toBe(true);
      expect([undefined, await serialNumber()]).toContain(port.serialNumber);
    });

    test('carries out what is asked for at once in the order of asking', async () => {
      await opened();
      const command = Buffer.alloc(5, 0x21);
      const [, ...answers] = await Promise.all([
        port.selectAlternateInterface(0, 1),
        port.controlTransferOut(dfu(1), command, 5000),
        port.controlTransferIn(dfu(3), 6, 5000),
        port.controlTransferIn(dfu(5), 1, 5000),
        port.controlTransferOut(dfu(6), NONE, 5000),
        port.controlTransferIn(dfu(5), 1, 5000),
      ]);
      expect(answers.map(({ status }) => status)).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
      // GETSTATUS begins the command (dfuDNBUSY, 4), GETSTATE tells that it is through (dfuDNLOAD-SYNC, 3), ABORT leads to dfuIDLE.
      const states = answers.map(answer =>
        'data' in answer ? [...answer.data].at(answer.data.length > 1 ? 4 : 0) : -1,
      );
      expect(states).toEqual([-1, 4, 3, -1, 2]);
    });

    test('withdraws what was asked for behind an alternate setting that there is not, or carries it out after it', async () => {
      await opened();
      const [selected, ...behind] = await Promise.allSettled([
        port.selectAlternateInterface(0, 7),
        port.controlTransferIn(dfu(5), 1, 5000),
        port.controlTransferIn(dfu(5), 1, 5000),
      ]);
      expect(selected).toMatchObject({ reason: { code: 'USB_STALL' } });
      for (const each of behind) {
        if (each.status === 'rejected') expect(each.reason).toMatchObject({ code: 'USB_STALL' });
        else expect(each.value).toEqual({ status: 'ok', data: Uint8Array.of(2) });
      }
      expect(await status()).toMatchObject({ 4: 2 });
    });

    test('may be closed more than once, and opened again', async () => {
      await port.close();
      await opened();
      await port.close();
      await port.close();
      expect(port.opened).toBe(false);
      await opened();
      expect(await status()).toMatchObject({ 4: 2 });
    });

    test('refuses transfers on what is not open, or not claimed', async () => {
      await expect(status()).rejects.toMatchObject({ code: 'USB_IO' });
      await port.open();
      await expect(status()).rejects.toMatchObject({ code: 'USB_IO' });
    });

    test('lets one program at a time have a device', async () => {
      // Looked up first: a rack does not list what is imported.
      const other = (await made.otherBus.list()).find(({ path }) => path === port.path)!;
      await opened();
      await expect(other.open()).rejects.toMatchObject({ code: 'USB_BUSY' });
      await port.close();
      await other.open();
      await other.close();
    });

    test('lists a device that it has open itself', async () => {
      await opened();
      expect((await made.bus.list()).map(({ path }) => path)).toContain(port.path);
    });

    test('gives the bytes of an IN transfer, and no more than were asked for', async () => {
      await opened();
      const setup = { requestType: 'standard', recipient: 'device', request: 6, value: 0x200, index: 0 } as const;
      const head = await port.controlTransferIn(setup, 9, 5000);
      const whole = await port.controlTransferIn(setup, 255, 5000);
      expect(head).toMatchObject({ status: 'ok', data: { length: 9 } });
      expect(whole).toMatchObject({ status: 'ok', data: { length: 36 } });
    });

    test('resolves a stalled transfer, in either direction, as a stall', async () => {
      await opened();
      const unknown = { ...dfu(0x55), recipient: 'interface' } as const;
      expect(await port.controlTransferIn(unknown, 8, 5000)).toEqual({ status: 'stall' });
      expect(await port.controlTransferOut(unknown, Uint8Array.of(1), 5000)).toEqual({ status: 'stall' });
      expect(await status()).toMatchObject({ 4: 2 });
    });

    test('says how many bytes went out, none included', async () => {
      await opened();
      expect(await port.controlTransferOut(dfu(6), NONE, 5000)).toEqual({ status: 'ok', bytesWritten: 0 });
      expect(await port.controlTransferOut(dfu(1, 2), new Uint8Array(4096), 5000)).toEqual({
        status: 'ok',
        bytesWritten: 4096,
      });
    });

    test('selects alternate settings, whose memories differ, and refuses one that there is not', async () => {
      await opened();
      const id = async () => {
        await point(3618);
        await port.controlTransferOut(dfu(6), NONE, 5000);
        const result = await port.controlTransferIn(dfu(2, 2), 12, 5000);
        await port.controlTransferOut(dfu(6), NONE, 5000);
        return result.status === 'ok' ? Buffer.from(result.data).toString('hex') : 'stall';
      };
      expect(await id()).toBe('00'.repeat(12));
      await port.selectAlternateInterface(0, 1);
      expect(await id()).toBe((await serialNumber()).toLowerCase());
      await expect(port.selectAlternateInterface(0, 7)).rejects.toMatchObject({ code: 'USB_STALL' });
    });

    test('waits as long as the device takes, and in its timeout only', async () => {
      await opened();
      await port.selectAlternateInterface(0, 1);
      await point(1762);
      await port.controlTransferOut(dfu(1, 2), Buffer.from('claim'), 5000);
      const timeoutMs = made.writeMs / 4;
      await expect(status(timeoutMs)).rejects.toMatchObject({
        code: 'USB_TIMEOUT',
        facts: { path: port.path, timeoutMs },
      });
      // The device went on with the write, and serves the next request after it.
      expect(await status()).toMatchObject({ 0: 0, 4: 5 });
      await port.controlTransferOut(dfu(6), NONE, 5000);
      const read = await port.controlTransferIn(dfu(2, 2), 5, 5000);
      expect(read.status === 'ok' && Buffer.from(read.data).toString()).toBe('claim');
    });

    test('lets the time of a transfer begin with its turn', async () => {
      await opened();
      await port.selectAlternateInterface(0, 1);
      await point(1762);
      await port.controlTransferOut(dfu(1, 2), Buffer.from('claim'), 5000);
      const [written, state] = await Promise.all([status(), port.controlTransferIn(dfu(5), 1, made.writeMs / 4)]);
      expect(written).toMatchObject({ 0: 0 });
      expect(state).toMatchObject({ status: 'ok' });
    });

    test('withdraws what was asked for behind a transfer that runs into its timeout', async () => {
      await opened();
      await port.selectAlternateInterface(0, 1);
      await point(1762);
      await port.controlTransferOut(dfu(1, 2), Buffer.from('claim'), 5000);
      const asked = [
        status(made.writeMs / 4),
        port.controlTransferOut(dfu(6), NONE, 5000),
        port.controlTransferIn(dfu(5), 1, 5000),
      ];
      for (const each of await Promise.allSettled(asked)) {
        expect(each).toMatchObject({ status: 'rejected', reason: { code: 'USB_TIMEOUT' } });
      }
      // Nothing of it has reached the device, which would be in dfuIDLE by that ABORT.
      expect(await status()).toMatchObject({ 0: 0, 4: 5 });
    });

    test('carries several transfers at once, each with its own answer', async () => {
      await opened();
      const setup = (value: number) =>
        ({ requestType: 'standard', recipient: 'device', request: 6, value, index: 0 }) as const;
      const [device, state, configuration] = await Promise.all([
        port.controlTransferIn(setup(0x100), 18, 5000),
        port.controlTransferIn(dfu(5), 1, 5000),
        port.controlTransferIn(setup(0x200), 36, 5000),
      ]);
      expect([device, state, configuration]).toMatchObject([
        { data: { length: 18 } },
        { data: { length: 1 } },
        { data: { length: 36 } },
      ]);
    });

    test('says USB_GONE of a device that was unplugged, during a transfer and ever after', async () => {
      await opened();
      let changed = false;
      made.bus.onChange(() => {
        changed = true;
      });
      await port.selectAlternateInterface(0, 1);
      await point(1762);
      await port.controlTransferOut(dfu(1, 2), Buffer.from('claim'), 5000);
      const busy = status();
      await made.unplugFirst();
      await expect(busy).rejects.toMatchObject({ code: 'USB_GONE' });
      await expect(status()).rejects.toMatchObject({ code: 'USB_GONE' });
      await port.close();
      await expect(port.open()).rejects.toMatchObject({ code: 'USB_GONE' });
      expect(await made.bus.list()).toHaveLength(1);
      expect(changed).toBe(true);
    });

    test('resets a device, which is idle afterwards, and closes it', async () => {
      await opened();
      await port.controlTransferOut(dfu(4), NONE, 5000);
      expect(await status()).toMatchObject({ 4: 10 });
      await port.reset();
      expect(port.opened).toBe(false);
      const [again] = await made.bus.list();
      port = again!;
      await opened();
      expect(await status()).toMatchObject({ 4: 2 });
    });

    test('ends what is in flight when it is closed', async () => {
      await opened();
      await port.selectAlternateInterface(0, 1);
      await point(1762);
      await port.controlTransferOut(dfu(1, 2), Buffer.from('claim'), 5000);
      const busy = expect(status()).rejects.toMatchObject({ code: expect.stringMatching(/^USB_(IO|GONE)$/) as string });
      await port.close();
      await busy;
    });
  });
}
