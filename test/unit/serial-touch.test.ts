import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { describe, expect, test } from 'vitest';
import { touch, ttyOf } from '#src/usb/serial-touch.ts';
import type { UsbPath } from '#src/core/usb-path.ts';
import { tempFolder } from '../support/temp-folder.ts';

/** Makes a terminal, says its name, and, asked by a line, the speed that it was set to (Linux: TCGETS2). */
const TERMINAL = `
import fcntl, os, struct, sys
master, slave = os.openpty()
print(os.ttyname(slave), flush=True)
sys.stdin.readline()
print(struct.unpack('=4IB19B2I', fcntl.ioctl(slave, 0x802C542A, bytes(44)))[-1], flush=True)
`;

describe('the touch at 14400 baud', () => {
  test('opens a serial port at that very speed, and closes it', async () => {
    const python = spawn('python3', ['-c', TERMINAL], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface(python.stdout)[Symbol.asyncIterator]();
    const tty = String((await lines.next()).value);
    expect(await touch(tty)).toBe(true);
    python.stdin.write('\n');
    expect((await lines.next()).value).toBe('14400');
    python.kill();
  });

  test('of a port that is not there is said to have failed', async () => {
    expect(await touch('/dev/ttyACM-none')).toBe(false);
  });
});

test('a device’s serial port is found by its path, and by no other device’s that begins like it', async () => {
  using folder = tempFolder();
  for (const name of ['3-1.4/x', '3-1.4:1.0/x', '3-1.4:1.1/tty/ttyACM7', '3-1.40:1.0/tty/ttyACM8']) {
    mkdirSync(folder.file(name), { recursive: true });
  }
  const sysfs = folder.file('.');
  expect(await ttyOf('3-1.4' as UsbPath, sysfs)).toBe('/dev/ttyACM7');
  expect(await ttyOf('3-1' as UsbPath, sysfs)).toBeNull();
  expect(await ttyOf('3-1.4' as UsbPath, folder.file('none'))).toBeNull();
});
