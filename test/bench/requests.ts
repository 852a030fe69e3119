import { serveRack } from '#src/sim/usbip-server.ts';
import { createRack } from '#src/sim/virtual-rack.ts';
import { Bench, csvOf } from '../support/cli.ts';
import { exactly, figureOf } from './figures.ts';
import type { Row } from './figures.ts';

const DEVICES = 8;

/** e: what one re-key asks of a device, counted by the rack. */
export async function benchRequests(): Promise<Row[]> {
  await using bench = new Bench();
  const rack = await createRack({ count: DEVICES, hubs: 2, writeMs: 0, keys: 'made' });
  const server = await serveRack(rack, { host: '127.0.0.1', port: 0 });
  const cloud = await bench.serve(['cloud', '--listen', '127.0.0.1:0']);
  const manifest = bench.file('rack.csv', csvOf(rack.devices));
  const { code, stderr } = await bench.run(
    ['run', manifest, '--rack', `127.0.0.1:${server.port}`, '--db', 'fleet.db'],
    {
      PARTICLE_ACCESS_TOKEN: 'token-of-the-bench',
      PHOTON_FLEET_CLOUD_URL: cloud.url,
    },
  );
  if (code !== 0) throw new Error(`exit ${code}: ${stderr}`);
  const records = rack.devices.map(({ photon }) => photon.record);
  const rewrites = rack.devices.map(({ photon }) => photon.dctRewrites);
  const transfers = records.map(({ counts }) => Object.values(counts).reduce((sum, count) => sum + count, 0));
  const statuses = records.map(({ counts }) => counts.getstatus);
  await server.close();
  await rack.close();
  return [
    { name: 'e', what: 'flash rewrites of a DCT in one re-key', figure: figureOf(rewrites), goal: exactly(1) },
    { name: '', what: '… control transfers of a device, all told', figure: figureOf(transfers), goal: null },
    { name: '', what: '… of which GETSTATUS', figure: figureOf(statuses), goal: null },
  ];
}
