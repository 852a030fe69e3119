import { stripVTControlCharacters as plain } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { DeviceId } from '#src/core/device-id.ts';
import type { DeviceSettled, RunEvent, RunSummary } from '#src/core/events.ts';
import type { UsbPath } from '#src/core/usb-path.ts';
import { deviceLines } from '#src/report/device-line.ts';
import { ndjsonReport } from '#src/report/json.ts';
import { LiveState } from '#src/report/live-view.ts';
import { plainReport } from '#src/report/plain.ts';
import { table } from '#src/report/table.ts';

const AT = Date.UTC(2026, 4, 3, 10, 0, 0);

function device(n: number, more: Partial<DeviceSettled> = {}): DeviceSettled {
  return {
    type: 'device',
    ts: AT,
    deviceId: `${n}`.repeat(24) as DeviceId,
    name: null,
    path: `1-1.${n}` as UsbPath,
    outcome: 'pass',
    code: null,
    message: null,
    hint: null,
    fingerprint: 'ab'.repeat(32),
    cloud: 'accepted',
    durationMs: 1234,
    ...more,
  };
}

const FAILED = device(2, {
  outcome: 'fail',
  code: 'DCT_UNREADABLE',
  message: 'the DCT reads as zeros',
  hint: 'flash the system parts',
  fingerprint: null,
  cloud: 'none',
});

const STARTED: RunEvent = {
  type: 'run-started',
  ts: AT,
  run: 7,
  job: 'rekey',
  manifest: '/rack.csv',
  rows: 3,
  resumed: true,
};

const SUMMARY: RunSummary = {
  type: 'summary',
  ts: AT,
  run: 7,
  rows: 3,
  pass: 1,
  fail: 1,
  error: 0,
  refused: 0,
  aborted: 0,
  skipped: 0,
  unseen: 1,
  cloudPending: 1,
  durationMs: 4200,
  exitCode: 3,
};

describe('a run for the eye', () => {
  test('a row that passed is one line, a failed one has its code and what to do', () => {
    expect([device(1, { name: 'A-01' }), FAILED].flatMap(deviceLines).map(plain)).toMatchInlineSnapshot(`
      [
        "pass      111111111111111111111111  1-1.1  A-01  cloud accepted  1.23 s",
        "fail      222222222222222222222222  1-1.2  DCT_UNREADABLE: the DCT reads as zeros",
        "         hint: flash the system parts",
      ]
    `);
  });

  test('what a device or a file says can not move the cursor', () => {
    const [line] = deviceLines(device(1, { name: 'A\u001b[2J\u202eB' }));
    expect(line).toContain('A\\u{1b}[2J\\u{202e}B');
    expect(table(['NAME'], [['A\u001b]0;x\u0007B']])).toContain('A\\u{1b}]0;x\\u{7}B');
  });

  test('a long table keeps its columns from the first row to the last', () => {
    const rows = Array.from({ length: 1000 }, (_, n) => [n, n === 999 ? 'wider than all before' : 'x', 'end']);
    const lines = plain(table(['N', 'WORD', 'LAST'], rows)).split('\n');
    expect(lines).toHaveLength(1001);
    expect(new Set(lines.map(line => Math.max(line.indexOf('LAST'), line.indexOf('end')))).size).toBe(1);
  });

  test('plain lines: results on stdout, talk on stderr, a recap with the hints and the next command', () => {
    const said: string[] = [];
    const out = {
      result: (line: string) => said.push(`out ${plain(line)}`),
      talk: (line: string) => said.push(`err ${plain(line)}`),
    };
    const report = plainReport(out, { verbose: true, next: () => ['next: photon-fleet history'] });
    report(STARTED);
    report({ type: 'step', ts: AT, deviceId: device(1).deviceId, path: device(1).path!, step: 'backup' });
    report(device(1));
    report(FAILED);
    report({ type: 'stranger', ts: AT, path: device(9).path!, deviceId: null, code: null, message: 'left alone' });
    report(SUMMARY);
    expect(said.join('\n')).toMatchInlineSnapshot(`
      "err run 7 (resumed): job rekey, 3 rows of /rack.csv
      err 111111111111111111111111  1-1.1  backup
      out pass      111111111111111111111111  1-1.1  cloud accepted  1.23 s
      out fail      222222222222222222222222  1-1.2  DCT_UNREADABLE: the DCT reads as zeros
      out          hint: flash the system parts
      err note: 1-1.9: a device: left alone
      out 
      out run 7: 3 rows, 1 pass, 1 fail, 1 unseen in 4.20 s
      out 1 key waits for the cloud: \`photon-fleet replay\` sends them
      out   1 × DCT_UNREADABLE: flash the system parts
      out 
      out next: photon-fleet history"
    `);
  });

  test('the live view has a bar, a cell a device on a line a hub, and the steps', () => {
    const state = new LiveState();
    state.take(STARTED);
    for (const n of [1, 2, 3]) {
      state.take({ type: 'step', ts: AT, deviceId: device(n).deviceId, path: device(n).path!, step: 'write' });
    }
    state.take(device(1));
    state.take(FAILED);
    expect(state.lines(80).map(plain).join('\n')).toMatchInlineSnapshot(`
      "rekey  run 7  █████████████████████░░░░░░░░░░░ 2/3
        1-1  ✔✘●
      write 1
      1 pass  1 fail"
    `);
  });
});

test('NDJSON has the time in RFC 3339 and leaves the talk out', () => {
  const lines: string[] = [];
  const report = ndjsonReport(line => lines.push(line));
  report(STARTED);
  report({ type: 'note', ts: AT, message: 'talk', hint: null });
  report(device(1));
  report(SUMMARY);
  expect(lines).toHaveLength(3);
  expect(JSON.parse(lines[1]!)).toEqual({ ...device(1), ts: '2026-05-03T10:00:00.000Z' });
  expect(Object.keys(JSON.parse(lines[2]!) as object)).toEqual([
    'type',
    'ts',
    'run',
    'rows',
    'pass',
    'fail',
    'error',
    'refused',
    'aborted',
    'skipped',
    'unseen',
    'cloudPending',
    'durationMs',
    'exitCode',
  ]);
});
