import { readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { simulatedId } from '#src/sim/rack-layout.ts';
import { makeRsa } from '#src/sim/photon-rsa.ts';
import { Bench, csvOf, jsonLines } from '../support/cli.ts';

const JOB = `name: move
description: A new key and another server
steps: [identify, preflight, backup, new-key, { write: { server-key: config } }, verify, send, leave]
`;

const devices = (stdout: string) => jsonLines(stdout).filter(({ type }) => type === 'device');

test('run --sim --prove: the devices carry the key and the address of a cloud that shakes hands', async () => {
  await using bench = await Promise.resolve(new Bench());
  const ids = [1, 2, 3].map(index => ({ deviceId: simulatedId(index) }));
  const manifest = bench.file('rack.csv', csvOf(ids));
  const { code, stdout } = await bench.run(['run', manifest, '--sim', '3', '--prove', '--json']);
  expect(devices(stdout)).toMatchObject(Array(3).fill({ outcome: 'pass', message: null, cloud: 'accepted' }));
  expect(code).toBe(0);
  const history = await bench.run(['history', ids[0]!.deviceId, '--json']);
  const { attempts } = JSON.parse(history.stdout) as { attempts: { steps: { name: string; state: string }[] }[] };
  const steps = attempts[0]!.steps.map(({ name, state }) => `${name} ${state}`);
  expect(steps.slice(-3)).toEqual(['send ok', 'prove ok', 'leave ok']);
});

test('run --prove with a job that has nothing to prove ends with 2, and nothing is touched', async () => {
  await using bench = await Promise.resolve(new Bench());
  const manifest = bench.file('rack.csv', csvOf([{ deviceId: simulatedId(1) }]));
  const { code, stderr } = await bench.run(['run', manifest, '--sim', '1', '--job', 'backup', '--prove']);
  expect(stderr).toMatchInlineSnapshot(`
    "error: --prove: the job backup has no step \`new-key\` and \`send\`, so there is no new key to prove [USAGE]
    hint: leave --prove out, or name a job that gives a new key and sends it, such as rekey
    "
  `);
  expect(code).toBe(2);
});

test(
  'a rack, a cloud and a run as processes: one server key is right, and one is not',
  { timeout: 120_000 },
  async () => {
    await using bench = await Promise.resolve(new Bench());
    const keyFile = bench.path('server.pem');
    const cloud = await bench.serve([
      ...['cloud', '--listen', '127.0.0.1:0', '--handshake-listen', '127.0.0.1:0'],
      ...['--server-key-out', keyFile],
    ]);
    const { handshake } = cloud as unknown as { handshake: string };
    expect(readFileSync(keyFile, 'utf8')).toMatch(/^-----BEGIN PUBLIC KEY-----\n/);
    expect(statSync(keyFile).mode & 0o022).toBe(0);
    const rack = await bench.serve(['rack', '--listen', '127.0.0.1:0', '--count', '2', '--write-ms', '1']);
    const manifest = bench.file('rack.csv', csvOf(rack.devices));
    const job = bench.file('move.yaml', JOB);
    const { publicKey } = await makeRsa(2048);
    const run = (serverKey: string, only: number) =>
      bench.run(
        [
          ...['run', manifest, '--rack', rack.address, '--job', job, '--prove', '--json', '--wait', '0'],
          ...['--cloud-url', cloud.url, '--only', rack.devices[only]!.deviceId],
        ],
        {
          PARTICLE_ACCESS_TOKEN: 'token-of-the-tests',
          PHOTON_FLEET_SERVER_KEY: serverKey,
          PHOTON_FLEET_SERVER_HOST: '127.0.0.1',
          PHOTON_FLEET_SERVER_PORT: handshake.split(':')[1],
        },
      );
    const right = await run(keyFile, 0);
    expect(devices(right.stdout)).toMatchObject([{ outcome: 'pass', message: null }]);
    expect(right.code).toBe(0);
    const wrong = await run(bench.file('other.der', publicKey), 1);
    expect(devices(wrong.stdout)).toMatchObject([{ outcome: 'refused', code: 'HANDSHAKE_REFUSED' }]);
    expect(wrong.code).toBe(3);
  },
);

test('sim cloud says where it shakes hands; a key file needs that, and goes over no other file', async () => {
  await using bench = await Promise.resolve(new Bench());
  const there = bench.file('there.pem', 'mine');
  const listen = ['sim', 'cloud', '--listen', '127.0.0.1:0'];
  const without = await bench.run([...listen, '--server-key-out', bench.path('x.pem')]);
  expect([without.code, without.stderr.split('\n')[0]]).toMatchInlineSnapshot(`
    [
      2,
      "error: --server-key-out: without --handshake-listen there is no server key [USAGE]",
    ]
  `);
  const over = await bench.run([...listen, '--handshake-listen', '127.0.0.1:0', '--server-key-out', there]);
  expect([over.code, over.stderr.replaceAll(bench.folder, 'FOLDER').split('\n')[0]]).toMatchInlineSnapshot(`
    [
      2,
      "error: the server key FOLDER/there.pem can't be made (EEXIST) [USAGE]",
    ]
  `);
  expect(readFileSync(there, 'utf8')).toBe('mine');
  const no = await bench.run([...listen, '--handshake-listen', 'here']);
  expect([no.code, no.stderr.split('\n')[0]]).toMatchInlineSnapshot(`
    [
      2,
      "error: --handshake-listen: "here" is no HOST:PORT [USAGE]",
    ]
  `);
  const child = bench.start([...listen, '--handshake-listen', '127.0.0.1:0']);
  const [first] = (await child.stdout!.take(1).toArray()) as Buffer[];
  expect(String(first)).toMatch(/^listening on http:\/\/127\.0\.0\.1:\d+, handshake: 127\.0\.0\.1:\d+\n/);
});
