import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import type { Writable } from 'node:stream';
import { resolve } from 'node:path';
import { parseDeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { systemCode } from '../core/system-code.ts';
import { csvLine } from '../report/csv.ts';
import type { StoredEvent } from '../store/ops/audit.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { AuditArgs } from './commands/audit.ts';
import { configOf, openRecord } from './compose.ts';
import { EXIT } from './exit-codes.ts';

const AT_ONCE = 1000;
const COLUMNS = ['seq', 'at', 'station', 'operator', 'event', 'device', 'run', 'fingerprint', 'facts', 'hash'] as const;

/** `audit export`: the journal, or a device's part of it, as lines; that it was taken out is itself an event. */
export async function exportJournal(args: AuditArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const deviceId = args.device === undefined ? null : parseDeviceId(args.device);
  if (args.device !== undefined && !deviceId) {
    throw new Fault('USAGE', '--device takes a device ID', { hint: 'a device ID has 24 hex digits' });
  }
  const since = args.since ?? 1;
  if (!Number.isSafeInteger(since) || since < 1) {
    throw new Fault('USAGE', '--since takes the number of an event', { hint: 'events are numbered from 1 on' });
  }
  const config = configOf(args, {}, context);
  await using store = await openRecord(config);
  const { seq: until } = await store.call('journalHead', undefined);
  const asCsv = args.format === 'csv';
  let events = 0;
  await store.call('noteExport', { what: 'journal', format: args.format, since, until, device: deviceId });
  await writeResult(args.out, context, async write => {
    if (asCsv) await write(csvLine(COLUMNS));
    for (let after = since - 1; ;) {
      const page = await store.call('journalPage', { after, until, limit: AT_ONCE, deviceId });
      const last = page.at(-1);
      if (!last) return;
      await write(page.map(asCsv ? csvOf : jsonOf).join(''));
      events += page.length;
      after = last.seq;
    }
  });
  context.out.talk(`${events} events`);
  return EXIT.OK;
}

/** The body as it was hashed, byte for byte, beside its hashes. */
function jsonOf({ prev, hash, body }: StoredEvent): string {
  return `{"prev":"${prev}","hash":"${hash}","event":${body}}\n`;
}

function csvOf({ body, hash }: StoredEvent): string {
  const event = JSON.parse(body) as Record<string, unknown>;
  const cell = (name: string): string | number => {
    const value = event[name];
    return typeof value === 'string' || typeof value === 'number' ? value : '';
  };
  const known = new Set<string>([...COLUMNS, 'v', 'set']);
  const facts = Object.fromEntries(Object.entries(event).filter(([name]) => !known.has(name)));
  return csvLine(
    COLUMNS.map(name => {
      if (name === 'hash') return hash;
      return name === 'facts' ? JSON.stringify(facts) : cell(name);
    }),
  );
}

/**
 * Hands out a writer to a file that must not be there yet (0600), or to stdout, which may be closed at any time.
 * @throws Fault FILE_UNWRITABLE
 */
export async function writeResult(
  file: string | undefined,
  { cwd }: CommandContext,
  work: (write: (text: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  const path = file === undefined ? null : resolve(cwd, file);
  const stream: Writable = path === null ? process.stdout : createWriteStream(path, { flags: 'wx', mode: 0o600 });
  const failed = new Promise<never>((_, reject) => stream.once('error', reject));
  failed.catch(() => undefined);
  try {
    await Promise.race([work(text => write(stream, text)), failed]);
    if (path === null) return;
    stream.end();
    await finished(stream);
  } catch (cause) {
    if (cause instanceof Fault) throw cause;
    if (path === null && systemCode(cause) === 'EPIPE') return; // whoever reads has had enough
    throw new Fault('FILE_UNWRITABLE', `${path ?? 'stdout'} can't be written (${systemCode(cause)})`, { cause });
  }
}

async function write(stream: Writable, text: string): Promise<void> {
  if (!stream.write(text)) await once(stream, 'drain');
}
