import { describe, expect, test } from 'vitest';
import { Bench } from '../support/cli.ts';

describe('history', () => {
  test('tells the life of a device as a timeline, and as JSON', async () => {
    await using bench = new Bench();
    const id = '0123456789abcdef01234567';
    bench.file('rack.csv', `device_id\n${id}\n`);
    const run = await bench.run(['run', 'rack.csv', '--sim', '1', '--wait', '0', '--operator', 'anna']);
    expect([run.code, run.stderr]).toEqual([0, expect.any(String)]);
    const { code, stdout } = await bench.run(['history', id]);
    expect(code).toBe(0);
    const lines = stdout.slice(stdout.indexOf('\ntimeline\n')).trimEnd().split('\n').slice(3);
    expect(
      lines.map(line =>
        line
          .replace(/^\S+Z {2}/, '')
          .replace(/[0-9a-f]{16}/, 'KEY')
          .replace(/ +/g, ' '),
      ),
    ).toEqual([
      'seen 1 anna -',
      'backup 1 taken 1 anna KEY readable',
      'key 1 made 1 anna KEY',
      'write begun 1 anna KEY',
      'key 1 written 1 anna KEY',
      'key 1 verified 1 anna KEY',
      'key 1 sent - anna KEY',
      'accepted by the cloud 1 anna KEY status 200',
      'left DFU mode 1 anna KEY',
      'settled: pass 1 anna -',
    ]);
    const history = JSON.parse((await bench.run(['history', id, '--json'])).stdout) as {
      keys: { changes: { state: string; at: string }[] }[];
      events: Record<string, unknown>[];
    };
    expect(history.keys[0]?.changes.map(({ state }) => state)).toEqual(['pre-activation', 'active']);
    expect(history.events).toHaveLength(10);
    expect(history.events[1]).toMatchObject({ event: 'backup-taken', operator: 'anna', run: 1, backup: 1 });
    expect(JSON.stringify(history.events)).not.toContain('"set"');
    expect(JSON.stringify(history)).toContain('"marks":[]');
  });
});
