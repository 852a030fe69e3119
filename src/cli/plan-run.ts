import type { Config } from '../config/config.ts';
import { systemClock } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import { toFault } from '../core/errors.ts';
import { comparePaths } from '../core/usb-path.ts';
import { indexRows, matchRow } from '../fleet/match-row.ts';
import { whyQuarantined } from '../fleet/roster.ts';
import { DeviceQueues } from '../fleet/queues.ts';
import type { Job } from '../job/job.ts';
import type { Manifest, ManifestRow } from '../manifest/manifest.ts';
import { table } from '../report/table.ts';
import type { Output } from '../report/terminal.ts';
import { identifyPort, isCandidate } from '../session/identify-port.ts';
import { isInNormalMode } from '../session/normal-mode.ts';
import { databaseExists } from '../store/database-file.ts';
import type { RowPlan } from '../store/ops/standing.ts';
import { Store } from '../store/store.ts';
import type { UsbBus, UsbPort } from '../usb/port.ts';
import type { RunArgs } from './commands/run.ts';

export interface PlanInput {
  readonly job: Job;
  readonly manifest: Manifest;
  readonly rows: readonly ManifestRow[];
  readonly buses: readonly UsbBus[];
  readonly config: Config;
  readonly args: RunArgs;
  readonly out: Output;
}

interface Planned {
  readonly deviceId: string | null;
  readonly path: string | null;
  readonly action: 'work' | 'skip' | 'wait' | 'leave alone';
  readonly why: string;
}

/** `run --plan`: for each row and each device on the bus what would be done. Nothing is written anywhere; where the USB serial tells no ID, it is read from the device, as `devices` does. */
export async function planRun(plan: PlanInput): Promise<number> {
  const { job, manifest, rows, buses, config, args, out } = plan;
  const all = (await Promise.all(buses.map(bus => bus.list()))).flat();
  const ports = all.filter(isCandidate);
  const running = new Map(all.filter(isInNormalMode).map(port => [parseDeviceId(port.serialNumber ?? ''), port.path]));
  const index = indexRows(rows);
  const before = await standings(plan);
  const queues = new DeviceQueues(config.values, systemClock);
  const known = new Set(manifest.rows.map(row => row.deviceId));
  const leftOut = args['only-compromised'] ? 'not among the compromised ones' : 'not named by --only';
  const planOf = (port: UsbPort): Promise<Planned> => planDevice(port, index, before, { known, leftOut });
  const devices = await Promise.all(ports.map(port => queues.run(port.hub, () => planOf(port))));
  devices.sort((a, b) => comparePaths(a.path ?? '', b.path ?? ''));
  const planned = rows.map((row): Planned => {
    const standing = before.get(row.deviceId);
    const device = devices.find(({ deviceId }) => deviceId === row.deviceId);
    const why = whySkipped(standing);
    if (why !== null) return { deviceId: row.deviceId, path: device?.path ?? null, action: 'skip', why };
    if (device) return { ...device, deviceId: row.deviceId };
    const path = running.get(row.deviceId);
    if (path === undefined) return { deviceId: row.deviceId, path: null, action: 'wait', why: 'not on the bus yet' };
    const switched = args['enter-dfu']
      ? 'it will be switched into DFU mode'
      : 'not in DFU mode; --enter-dfu switches it';
    return {
      deviceId: row.deviceId,
      path,
      action: args['enter-dfu'] ? 'work' : 'wait',
      why: `it is in normal mode: ${switched}`,
    };
  });
  if (args.json) {
    out.result(JSON.stringify({ job: job.name, manifest: manifest.path, rows: planned, devices }));
    return 0;
  }
  out.result(`job ${job.name}: ${job.steps.map(({ name }) => name).join(', ')}`);
  for (const { slot, header, file } of job.plan.firmware ?? [])
    out.result(`  ${slot} version ${header.version}: ${file}`);
  const cells = ({ deviceId, path, action, why }: Planned): (string | null)[] => [deviceId, path, action, why];
  out.result(`\n${table(['ROW', 'PATH', 'ACTION', 'WHY'], planned.map(cells))}`);
  const others = devices.filter(device => !planned.some(({ path }) => path === device.path));
  if (others.length > 0) out.result(`\n${table(['OTHER DEVICE', 'PATH', 'ACTION', 'WHY'], others.map(cells))}`);
  out.result('\nnothing was touched');
  return 0;
}

function whySkipped(standing: RowPlan | undefined): string | null {
  if (standing?.settled) return `settled earlier: ${standing.outcome ?? ''}`;
  return standing?.failures?.quarantined ? whyQuarantined(standing.failures) : null;
}

async function planDevice(
  port: UsbPort,
  index: ReturnType<typeof indexRows>,
  before: ReadonlyMap<string, RowPlan>,
  { known, leftOut }: { known: ReadonlySet<string>; leftOut: string },
): Promise<Planned> {
  const { path } = port;
  try {
    const { evidence, device } = await identifyPort(port, systemClock);
    await device?.close();
    const match = matchRow(path, evidence, index);
    switch (match.kind) {
      case 'row': {
        const { deviceId } = match.row;
        const standing = before.get(deviceId);
        const why = whySkipped(standing);
        if (why !== null) return { deviceId, path, action: 'skip', why };
        const elsewhere = standing?.elsewhere ? `; settled under ${standing.elsewhere}, and worked on again` : '';
        return { deviceId, path, action: 'work', why: `identified by its ${match.identity}${elsewhere}` };
      }
      case 'conflict':
        return {
          deviceId: match.row.deviceId,
          path,
          action: 'leave alone',
          why: `${match.fault.code}: ${match.fault.message}`,
        };
      case 'stranger':
        return {
          deviceId: match.deviceId,
          path,
          action: 'leave alone',
          why: match.fault
            ? `${match.fault.code}: ${match.fault.message}`
            : known.has(match.deviceId ?? '')
              ? leftOut
              : 'not in the manifest',
        };
    }
  } catch (error) {
    const fault = toFault(error);
    return { deviceId: null, path, action: 'leave alone', why: `${fault.code}: ${fault.message}` };
  }
}

async function standings({ config, args, job, manifest, rows }: PlanInput): Promise<ReadonlyMap<string, RowPlan>> {
  if (!databaseExists(config.values.db)) return new Map();
  await using store = await Store.open({ path: config.values.db, create: false });
  const found = await store.call('planRows', {
    job: job.name,
    manifest: manifest.path,
    deviceIds: rows.map(row => row.deviceId),
    again: args.again === true,
    retryFailed: args['retry-failed'] === true,
    onlyCompromised: args['only-compromised'] === true,
    quarantineAfter: config.values.quarantineAfter,
  });
  return new Map(found.map(row => [row.deviceId, row]));
}
