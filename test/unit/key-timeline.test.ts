import { expect, test } from 'vitest';
import { timelineOf } from '#src/cli/device-timeline.ts';
import { timeline } from '#src/report/timeline.ts';
import { RecordBench } from '../support/record-bench.ts';

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);

/** Events and reasons, without the times. */
const lines = (moments: ReturnType<typeof timelineOf>): string[] =>
  moments.map(({ what, why }) => (why === null ? what : `${what} (${why})`));

test('a timeline tells what became of each key, and a mark once', async () => {
  await using record = RecordBench.open();
  const device = await record.device();
  // What a change of state is told by lies in the journal's time.
  const at = (): number => Date.now();
  const first = await device.writing(A);
  await record.store.call('markVerified', { writeId: first.writeId, at: at() });
  await record.store.call('markLeft', { writeId: first.writeId, at: at() });
  const second = await device.writing(B, A);
  await record.store.call('markVerified', { writeId: second.writeId, at: at() });
  await record.store.call('markKey', { prefix: A, state: 'compromised', why: 'laptop stolen', at: at() });
  const told = lines(timelineOf(await record.store.call('deviceHistory', device.id)));
  expect(told.filter(line => line.startsWith('key 1 deactivated'))).toEqual([
    'key 1 deactivated (replaced on the device)',
  ]);
  expect(told.filter(line => line.includes('compromised'))).toEqual(['key marked compromised (laptop stolen)']);
  expect(told.at(-1)).toBe('key marked compromised (laptop stolen)');
});

test('what is older than the journal is told from the tables, first', async () => {
  await using record = RecordBench.open();
  const device = await record.device();
  await device.accepted(A, { left: true }); // at times long before the journal was begun
  const moments = timelineOf(await record.store.call('deviceHistory', device.id));
  expect(lines(moments).slice(0, 3)).toEqual([
    'key 1 pre-activation (made)',
    'key 1 active (verified on the device)',
    'seen',
  ]);
});

test('no control character of the record reaches a terminal', () => {
  const at = '2026-05-03T09:00:00.000Z';
  const shown = timeline([{ at, what: 'dropped', run: null, by: 'eve\u001b[2J', fingerprint: A, why: 'x\ny' }]);
  expect(shown.split('\n')).toHaveLength(2);
  expect(shown.replace('\u001b[1m', '').replace('\u001b[22m', '')).not.toMatch(/[\u001b\u009b]/);
});
