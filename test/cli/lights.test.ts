import { createInterface } from 'node:readline';
import { expect, test, vi } from 'vitest';
import { makeRsa } from '#src/sim/photon-rsa.ts';
import { Bench, csvOf, jsonLines } from '../support/cli.ts';

/** A new key and another server; with the question whether the device has connected, or without a send. */
const jobOf = (name: string, ...more: string[]): string =>
  [
    `name: ${name}`,
    `steps: [identify, preflight, backup, new-key, { write: { server-key: config } }, verify, ${more.join(', ')}]`,
    '',
  ].join('\n');

test('sim rack --boots tells what the LED of each device that starts shows, by its handshake with sim cloud', async () => {
  await using bench = new Bench();
  const keyFile = bench.path('server.pem');
  const cloud = await bench.serve([
    ...['cloud', '--listen', '127.0.0.1:0', '--handshake-listen', '127.0.0.1:0'],
    ...['--server-key-out', keyFile],
  ]);
  const { handshake } = cloud as unknown as { handshake: string };
  const child = bench.start([
    ...['sim', 'rack', '--listen', '127.0.0.1:0', '--count', '5', '--hubs', '1', '--write-ms', '1'],
    ...['--boots', '--fault', '#4:no-boot', '--json'],
  ]);
  const lines: Record<string, unknown>[] = [];
  createInterface(child.stdout!).on('line', line => lines.push(JSON.parse(line) as Record<string, unknown>));
  await vi.waitUntil(() => lines.length > 0, { timeout: 240_000 });
  const { address, devices } = lines[0] as { address: string; devices: { deviceId: string; path: string }[] };
  const manifest = bench.file('rack.csv', csvOf(devices));
  const env = {
    PARTICLE_ACCESS_TOKEN: 'token-of-the-tests',
    PHOTON_FLEET_CLOUD_URL: cloud.url,
    PHOTON_FLEET_SERVER_KEY: keyFile,
    PHOTON_FLEET_SERVER_HOST: '127.0.0.1',
    PHOTON_FLEET_SERVER_PORT: handshake.split(':')[1],
  };
  const run = (job: string, which: number, more: NodeJS.ProcessEnv = {}) =>
    bench.run(
      [
        ...['run', manifest, '--rack', address, '--job', job, '--json', '--wait', '0'],
        ...['--only', devices[which]!.deviceId],
      ],
      { ...env, ...more },
    );
  const asked = bench.file('asked.yaml', jobOf('asked', 'send', 'confirm-online', 'leave'));
  const told = bench.file('told.yaml', jobOf('told', 'send', 'leave'));
  const { publicKey: other } = await makeRsa(2048);

  expect((await run(asked, 0)).code).toBe(4); // it has not connected yet
  expect((await run(told, 1, { PHOTON_FLEET_SERVER_KEY: bench.file('other.der', other) })).code).toBe(0);
  const untold = await run(told, 2, { PHOTON_FLEET_CLOUD_URL: 'http://127.0.0.1:9' });
  expect(untold.code).toBe(4);
  expect((await run(told, 3)).code).toBe(0);
  expect((await run('rekey', 4)).code).toBe(0);

  const leds = () => lines.filter(({ type }) => type === 'led');
  await vi.waitUntil(() => leds().length === devices.length, { timeout: 240_000 });
  const seen = devices.map(({ deviceId }) => leds().find(led => led['deviceId'] === deviceId)!);
  expect(seen.map(({ path }) => path)).toEqual(devices.map(({ path }) => path));
  expect(seen.map(({ light, why }) => [light, why])).toEqual([
    ['breathing cyan', null],
    ['red burst', expect.stringContaining('the server key on it is not its server’s')],
    ['red burst', expect.stringContaining('its server has another key of it')],
    ['dark', 'no firmware that starts'],
    ['blinking cyan', expect.stringContaining('a virtual Photon calls no other')],
  ]);
  // The first one has connected, so what was asked is answered; and the third one's key is sent.
  const replay = await bench.run(['replay', '--now', '--json'], env);
  expect({ code: replay.code, last: jsonLines(replay.stdout).at(-1) }).toMatchObject({
    code: 0,
    last: { accepted: 2, pending: 0 },
  });
});
