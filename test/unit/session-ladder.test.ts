import { describe, expect, test } from 'vitest';
import { Fault, type FaultCode } from '#src/core/errors.ts';
import { FAULTS } from '#src/core/fault-codes.ts';
import { DfuDevice } from '#src/dfu/dfu-device.ts';
import { climb, type FindAgain } from '#src/session/climb.ts';
import { Ladder, type Rung } from '#src/session/ladder.ts';
import { QuickClock } from '../support/quick-clock.ts';
import { ScriptedPort, type Script } from '../support/scripted-port.ts';

/** The rungs that are climbed where each fault in turn has led to the next try. */
function climbed(...codes: readonly FaultCode[]): (Rung | null)[] {
  const ladder = new Ladder();
  return codes.map(code => ladder.next(code));
}

/** All that is tried against a fault that stays. */
function against(code: FaultCode): Rung[] {
  const ladder = new Ladder();
  const rungs: Rung[] = [];
  for (let rung = ladder.next(code); rung !== null; rung = ladder.next(code)) rungs.push(rung);
  return rungs;
}

describe('the ladder', () => {
  const WHOLE = ['again', 'dfu-recovery', 'usb-reset', 'ask-replug'];

  test.each([
    ['DFU_NOT_IDLE', WHOLE],
    ['DFU_PROTOCOL', WHOLE],
    ['READ_FAILED', WHOLE],
    ['WRITE_FAILED', WHOLE],
    ['LEAVE_FAILED', WHOLE],
    ['ROLLBACK_FAILED', WHOLE],
    ['USB_STALL', WHOLE],
    ['USB_IO', WHOLE],
    ['USB_TIMEOUT', ['dfu-recovery', 'usb-reset', 'ask-replug']],
    ['DESCRIPTOR_INVALID', ['usb-reset', 'ask-replug']],
    ['VERIFY_MISMATCH', ['again', 'ask-replug']],
    ['USB_GONE', ['re-enumerate', 'ask-replug']],
    ['SESSION_DEADLINE', ['ask-replug']],
    ['RESET_NEEDED', ['back-in-dfu', 'ask-replug']],
  ] as const)('against %s', (code, rungs) => {
    expect(against(code)).toEqual(rungs);
  });

  test('is climbed for these, and for nothing else', () => {
    const codes = (Object.keys(FAULTS) as FaultCode[]).filter(code => against(code).length > 0);
    expect(codes.sort()).toEqual([
      'DESCRIPTOR_INVALID',
      'DFU_NOT_IDLE',
      'DFU_PROTOCOL',
      'LEAVE_FAILED',
      'READ_FAILED',
      'RESET_NEEDED',
      'ROLLBACK_FAILED',
      'SESSION_DEADLINE',
      'USB_GONE',
      'USB_IO',
      'USB_STALL',
      'USB_TIMEOUT',
      'VERIFY_MISMATCH',
      'WRITE_FAILED',
    ]);
  });

  test('ends with the hand, whatever the fault', () => {
    for (const code of Object.keys(FAULTS) as FaultCode[]) {
      expect([code, against(code).at(-1) ?? 'ask-replug']).toEqual([code, 'ask-replug']);
    }
  });

  test('stands on the ground again after a start anew, of which there is one', () => {
    const ladder = new Ladder();
    expect(ladder.next('USB_TIMEOUT')).toBe('dfu-recovery');
    expect(ladder.next('RESET_NEEDED')).toBe('back-in-dfu');
    expect(ladder.next('READ_FAILED')).toBe('again');
    expect(ladder.next('RESET_NEEDED')).toBe('ask-replug');
    expect(ladder.next('RESET_NEEDED')).toBeNull();
  });

  test('goes up only, from one fault to another', () => {
    expect(climbed('WRITE_FAILED', 'USB_TIMEOUT', 'WRITE_FAILED', 'USB_GONE', 'USB_GONE', 'WRITE_FAILED')).toEqual([
      'again',
      'dfu-recovery',
      'usb-reset',
      're-enumerate',
      'ask-replug',
      null,
    ]);
  });

  test('leaves out what a higher rung was taken before', () => {
    expect(climbed('DESCRIPTOR_INVALID', 'USB_TIMEOUT')).toEqual(['usb-reset', 'ask-replug']);
    expect(climbed('USB_GONE', 'WRITE_FAILED')).toEqual(['re-enumerate', 'ask-replug']);
    expect(climbed('WRITE_FAILED', 'VERIFY_MISMATCH')).toEqual(['again', 'ask-replug']);
  });

  test('is not moved by a fault that is not climbed for', () => {
    expect(climbed('READ_UNSTABLE', 'WRITE_FAILED')).toEqual([null, 'again']);
  });
});

describe('a rung', () => {
  interface Asked {
    readonly sinceMs: number;
    readonly atMs: number;
  }

  /** A device, and a bus on which it is found again so long after it was looked for. */
  async function bench(script: Script = {}, backInMs: number | null = 0) {
    const clock = new QuickClock();
    const port = new ScriptedPort(script);
    const device = await DfuDevice.open(port, clock);
    port.asked.splice(0);
    const again = new ScriptedPort();
    const asked: Asked[] = [];
    const findAgain: FindAgain = sinceMs => {
      asked.push({ sinceMs, atMs: clock.monotonicMs() });
      return backInMs !== null && clock.monotonicMs() >= sinceMs + backInMs ? again : null;
    };
    const drain = new AbortController();
    return { clock, port, device, again, asked, drain, parts: { clock, findAgain, drain: drain.signal } };
  }

  test('again: takes the device as it is', async () => {
    const { port, device, parts } = await bench();
    expect(await climb('again', { port, device }, parts)).toEqual({ port, device });
    expect([port.asked, port.opened]).toEqual([[], true]);
  });

  test('dfu-recovery: brings DFU to idle, and takes the device as it is', async () => {
    const { port, device, parts } = await bench({ statuses: [10, 2] });
    expect(await climb('dfu-recovery', { port, device }, parts)).toEqual({ port, device });
    expect(port.names).toEqual(['GETSTATE', 'GETSTATUS', 'CLRSTATUS', 'GETSTATUS']);
  });

  test('dfu-recovery: throws what the device fails with', async () => {
    const { port, device, parts } = await bench({ statuses: [4] });
    await expect(climb('dfu-recovery', { port, device }, parts)).rejects.toMatchObject({ code: 'DFU_NOT_IDLE' });
  });

  test('dfu-recovery: has nothing to do with a device that is not open', async () => {
    const { port, parts } = await bench();
    expect(await climb('dfu-recovery', { port, device: undefined }, parts)).toEqual({ port, device: undefined });
    expect(port.asked).toEqual([]);
  });

  test('usb-reset: resets, closes, and takes what is found at the path by a look that began after the reset', async () => {
    const { clock, port, device, again, asked, parts } = await bench({}, 300);
    const done: string[] = [];
    port.reset = async () => {
      await clock.sleep(700);
      done.push(port.opened ? 'reset while open' : 'reset while closed');
    };
    const before = clock.monotonicMs();
    const grip = await climb('usb-reset', { port, device }, parts);
    expect(grip?.port).toBe(again);
    expect(grip?.device).toBeUndefined();
    expect([done, port.opened]).toEqual([['reset while open'], false]);
    expect(asked.map(({ sinceMs, atMs }) => [sinceMs - before, atMs - before])).toEqual([
      [700, 700],
      [700, 800],
      [700, 900],
      [700, 1000],
    ]);
  });

  test('usb-reset: a device that the reset throws off the bus is waited for as well', async () => {
    const { port, device, again, parts } = await bench({}, 100);
    port.reset = () => Promise.reject(new Fault('USB_GONE', 'gone'));
    expect((await climb('usb-reset', { port, device }, parts))?.port).toBe(again);
    expect(port.opened).toBe(false);
  });

  test('usb-reset: a port that can not be reset is closed all the same', async () => {
    const { port, device, asked, parts } = await bench();
    port.reset = () => Promise.reject(new Fault('USB_ACCESS', 'not yours'));
    await expect(climb('usb-reset', { port, device }, parts)).rejects.toMatchObject({ code: 'USB_ACCESS' });
    expect([port.opened, asked]).toEqual([false, []]);
  });

  test('re-enumerate: closes, and waits five seconds', async () => {
    const { clock, port, device, again, parts } = await bench({}, 4900);
    const before = clock.monotonicMs();
    expect((await climb('re-enumerate', { port, device }, parts))?.port).toBe(again);
    expect([port.opened, clock.monotonicMs() - before]).toEqual([false, 4900]);
  });

  test('re-enumerate: and no longer', async () => {
    const { clock, port, device, parts } = await bench({}, null);
    const before = clock.monotonicMs();
    expect(await climb('re-enumerate', { port, device }, parts)).toBeNull();
    expect(clock.monotonicMs() - before).toBe(5000);
  });

  test.each(['usb-reset', 're-enumerate'] as const)('%s: nobody waits after Ctrl-C', async rung => {
    const { clock, port, device, drain, parts } = await bench({}, null);
    clock.onSleep = () => drain.abort();
    const before = clock.monotonicMs();
    expect(await climb(rung, { port, device }, parts)).toBeNull();
    expect(clock.monotonicMs() - before).toBe(100);
  });
});
