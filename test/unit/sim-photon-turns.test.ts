import { describe, expect, test } from 'vitest';
import { hang, unplugAt } from '#src/sim/fault-behaviours.ts';
import { bench, dfu, ManualClock, turn, type Bench } from './sim-bench.ts';

const BLOCK = new Uint8Array(100).fill(0x2e);
const CLAIM_CODE = 1762;

/** A photon whose write of one DCT block is under way, 600 ms long. */
async function writing(spec: Parameters<typeof bench>[0] = {}) {
  const clock = new ManualClock();
  const made = await bench({ writeMs: 600, ...spec }, { clock });
  await made.host.select(1);
  await made.host.point(CLAIM_CODE);
  await made.host.download(2, BLOCK);
  const cancel = new AbortController();
  const status = made.host.status(cancel.signal);
  await clock.advance(10);
  return { ...made, clock, cancel, status };
}

async function readsBlock({ host }: Bench): Promise<boolean> {
  await host.abort();
  await host.select(1);
  return (await host.read(CLAIM_CODE, 100)).equals(BLOCK);
}

describe('endpoint 0', () => {
  test('serves one transfer after the other: what arrives during a write waits', async () => {
    const made = await writing();
    let answered = false;
    const next = made.host.status().then(text => {
      answered = true;
      return text;
    });
    await turn();
    expect(answered).toBe(false);
    await made.clock.advance(600);
    expect([await made.status, await next]).toEqual(['4/0 poll 1', '5/0 poll 1']);
  });

  test('a host that times out during a write gets nothing, and the write goes on', async () => {
    const made = await writing();
    made.cancel.abort();
    expect(await made.status).toBe('cancelled');
    await made.clock.advance(600);
    expect(await readsBlock(made)).toBe(true);
  });

  test('a write that fails after its host timed out stalls the transfer that is pending then', async () => {
    const made = await writing({ systemParts: 'broken' });
    made.cancel.abort();
    await made.status;
    const pending = made.host.status();
    await made.clock.advance(600);
    expect(await pending).toBe('stall');
    expect(await made.host.status()).toMatch(/^5\/0/);
  });

  test('a transfer that is withdrawn while it waits is never carried out', async () => {
    const made = await writing();
    const cancel = new AbortController();
    const clear = made.host.out(dfu(4), new Uint8Array(0), cancel.signal);
    await turn();
    cancel.abort();
    expect(await clear).toEqual({ kind: 'cancelled' });
    await made.clock.advance(600);
    await made.status;
    expect(made.photon.record.counts.clrstatus).toBe(0);
  });

  test('a power cut inside a write leaves the old copy whole', async () => {
    const made = await writing();
    made.photon.powerOff();
    expect(await made.status).toBe('gone');
    await made.clock.advance(600);
    made.photon.powerOn();
    expect(made.photon.dctRewrites).toBe(0);
    expect(made.clock.sleeping).toBe(0);
    expect(await readsBlock(made)).toBe(false);
    expect((await made.host.read(3618, 2)).toString('hex')).toBe('0123');
  });

  test('a replug in the midst of a write starts the bootloader anew', async () => {
    const made = await writing();
    made.photon.powerOff();
    made.photon.powerOn();
    await made.status;
    expect(await made.host.status()).toBe('2/0');
  });

  test('a reset of the bus ends what is pending, and waits for the write, which is kept', async () => {
    const made = await writing();
    const waiting = made.host.status();
    let reset = false;
    const done = made.photon.busReset().then(() => (reset = true));
    expect([await made.status, await waiting]).toEqual(['gone', 'gone']);
    await made.clock.advance(589);
    expect(reset).toBe(false);
    const after = made.host.status();
    await made.clock.advance(1);
    await done;
    expect(await after).toBe('2/0 poll 1');
    expect(made.photon.dfuState).toBe(2);
    expect(await readsBlock(made)).toBe(true);
  });

  test('nothing is answered by a device without power', async () => {
    const { host, photon } = await bench();
    photon.powerOff();
    expect(await host.status()).toBe('gone');
  });

  test('every request is counted, and the newest are kept without their data', async () => {
    const { host, photon } = await bench();
    await host.download(0, Uint8Array.of(0x00));
    await host.status();
    expect(photon.record.counts).toMatchObject({ dnload: 1, getstatus: 1, upload: 0 });
    expect(photon.record.lines).toEqual([
      { name: 'dnload', request: 1, value: 0, index: 0, length: 1, reply: 'ok', state: 3 },
      { name: 'getstatus', request: 3, value: 0, index: 0, length: 6, reply: 'ok', state: 3 },
    ]);
  });
});

describe('behaviours on top of a photon', () => {
  test('a hang ends when the host gives up, and the next request is served', async () => {
    const { host } = await bench({}, { behaviours: [hang('getstatus', 1)] });
    const cancel = new AbortController();
    const status = host.status(cancel.signal);
    await turn();
    cancel.abort();
    expect(await status).toBe('cancelled');
    expect(await host.status()).toBe('2/0');
  });

  test('a hang ends when the host resets the bus', async () => {
    const { host, photon } = await bench({}, { behaviours: [hang('getstatus', 1)] });
    const status = host.status();
    await photon.busReset();
    expect(await status).toBe('gone');
    expect(await host.status()).toBe('2/0');
  });

  test('the stall that a reset cut off hits no later transfer', async () => {
    const made = await writing({ systemParts: 'broken' });
    made.cancel.abort();
    await made.status;
    const reset = made.photon.busReset();
    const after = made.host.status();
    await made.clock.advance(600);
    await reset;
    expect(await after).toMatch(/^2\/0/);
  });

  test('a write that hangs is not carried out', async () => {
    const made = await bench({}, { behaviours: [hang('write')] });
    await made.host.select(1);
    await made.host.point(CLAIM_CODE);
    await made.host.download(2, BLOCK);
    const cancel = new AbortController();
    const status = made.host.status(cancel.signal);
    await turn();
    cancel.abort();
    expect(await status).toBe('cancelled');
    expect(await readsBlock(made)).toBe(false);
  });

  test('the cable pulled inside a write leaves the old copy whole, and strikes once', async () => {
    const made = await bench({}, { behaviours: [unplugAt('write', 1)] });
    await made.host.select(1);
    expect(await made.host.write(CLAIM_CODE, BLOCK)).toBe('gone');
    expect(made.departures).toEqual(['unplugged']);
    made.photon.powerOn();
    expect(await readsBlock(made)).toBe(false);
    expect(await made.host.write(CLAIM_CODE, BLOCK)).toBe('4/0 poll 1');
    expect(await readsBlock(made)).toBe(true);
  });

  test('lie on top of each other, each taking a request or passing it on', async () => {
    const seen: string[] = [];
    const noting = (name: string) => ({
      request: async ({ name: of }: { name: string }, pass: () => Promise<never>) => {
        seen.push(`${name} ${of}`);
        return await pass();
      },
    });
    const { host } = await bench({}, { behaviours: [noting('lower'), noting('upper')] as never });
    expect(await host.status()).toBe('2/0');
    expect(seen).toEqual(['upper getstatus', 'lower getstatus']);
  });
});
