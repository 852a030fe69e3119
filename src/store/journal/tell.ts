import type { Db } from '../db.ts';
import type { OperationName } from '../operations.ts';
import { readWanted } from '../ops/firmware.ts';
import type { Change, Row } from './capture.ts';
import type { Fact, Told } from './event.ts';

/** What the journal calls that which an operation did; one that is not named here goes by its own name. */
const EVENTS: Partial<Record<OperationName, string>> = {
  openRun: 'run-started',
  openRestore: 'run-started',
  addRows: 'rows-added',
  finishRun: 'run-ended',
  beginAttempt: 'device-seen',
  saveBackup: 'backup-taken',
  prepareWrite: 'write-prepared',
  markWriting: 'write-begun',
  markVerified: 'written',
  markLeftToOutbox: 'left-to-outbox',
  markLeft: 'left',
  markRollingBack: 'roll-back-begun',
  markRolledBack: 'rolled-back',
  abandonWrite: 'write-abandoned',
  settleRow: 'row-settled',
  leaseSend: 'sent',
  recordAccepted: 'accepted',
  recordRefused: 'refused',
  recordUnknown: 'unanswered',
  recordProofRefused: 'proof-refused',
  retrySend: 'send-retried',
  dropSend: 'send-dropped',
  dueSends: 'leases-freed',
  releaseDevice: 'released',
  bindRecipient: 'vault-bound',
  bindVault: 'vault-bound',
  noteWorkingIdentity: 'working-identity-made',
  noteWorkingIdentityDestroyed: 'working-identity-destroyed',
  beginRewrap: 'vault-rewrap-begun',
  resealPage: 'sealed-anew',
  endRewrap: 'vault-rewrapped',
  markKey: 'key-marked',
  noteConfiguration: 'configuration-changed',
  bindSigningKey: 'signing-key-bound',
  addPreparedKeys: 'keys-prepared',
  takePreparedKey: 'prepared-key-taken',
  discardPreparedKeys: 'prepared-keys-discarded',
  noteModules: 'modules-seen',
  beginFlash: 'flash-begun',
  endFlash: 'flashed',
  queueCall: 'call-queued',
  leaseCall: 'call-made',
  recordCallDone: 'call-done',
  recordCallRefused: 'call-refused',
  recordCallUnknown: 'call-unanswered',
  retryCalls: 'call-retried',
  dropCalls: 'call-dropped',
  dueCalls: 'leases-freed',
};

/** What an operation did, in the words of the journal: one event that carries its rows, and those that go with it. */
export function tell(db: Db, name: OperationName, changes: readonly Change[]): readonly [Told, ...Told[]] {
  // A run is told of as such, though it may have one device only.
  const device = EVENTS[name] === 'run-started' ? undefined : deviceOf(changes);
  const about = { device, run: runOf(db, changes) };
  const first = { ...about, event: eventOf(name, changes), facts: factsOf(db, changes) };
  const others = changes.flatMap(change => besides(db, change)).map(told => ({ ...about, ...told }));
  return [first, ...others];
}

function eventOf(name: OperationName, changes: readonly Change[]): string {
  const isRun = EVENTS[name] === 'run-started';
  if (isRun && !changes.some(({ table, old }) => table === 'runs' && old === null)) return 'run-resumed';
  if (name === 'prepareWrite' && changes.some(({ table, now }) => table === 'keys' && now['origin'] === 'made')) {
    return 'key-made';
  }
  return EVENTS[name] ?? name.replace(/[A-Z]/g, capital => `-${capital.toLowerCase()}`);
}

/** Events that one operation tells of beside its own. */
function besides(db: Db, { table, old, now }: Change): Told[] {
  switch (table) {
    case 'writes':
      return now['phase'] === 'verified' && old?.['phase'] !== 'verified'
        ? [
            { event: 'verified', facts: { ...keyFacts(db, now['key_id']), sha256: text(now['new_sha256']) } },
            ...restored(db, now),
          ]
        : [];
    case 'sends':
      return now['state'] === 'superseded' && old?.['state'] !== 'superseded'
        ? [{ event: 'superseded', facts: keyFacts(db, now['key_id']) }]
        : [];
    case 'keys':
      return old !== null && now['state'] === 'active' && old['state'] === 'deactivated'
        ? [{ event: 'restored', facts: keyFacts(db, now['id']) }]
        : old === null && now['origin'] === 'restored' && now['state'] === 'active'
          ? [{ event: 'restored', facts: keyFacts(db, now['id']) }]
          : [];
    case 'key_marks':
      return devicesWith(db, now['fingerprint']).map(device => {
        const facts = { fingerprint: text(now['fingerprint']), state: text(now['state']), why: text(now['why']) };
        return { event: 'marked', device, facts };
      });
    case 'restores': {
      const facts = { backup: number(now['backup_id']), why: text(now['why']) };
      return [{ event: 'restore-asked', device: text(now['device_id']), facts }];
    }
    case 'cloud_calls':
      return now['state'] === 'superseded' && old?.['state'] !== 'superseded'
        ? [{ event: 'call-superseded', facts: { call: text(now['kind']) } }]
        : [];
    case 'steps':
      return now['name'] === 'verify' && now['state'] === 'failed' ? [{ event: 'verification-failed' }] : [];
    case 'rows':
      return now['code'] === 'QUARANTINED' && old?.['code'] !== 'QUARANTINED'
        ? [{ event: 'quarantined', device: text(now['device_id']) }]
        : [];
    default:
      return [];
  }
}

/** A backup's keys that are on the device again, and why somebody wanted them there. */
function restored(db: Db, write: Row): Told[] {
  const backup = number(write['restored_backup_id']);
  if (backup === undefined) return [];
  const asked = db.get<{ why: string | null }>(
    `SELECT why FROM restores WHERE device_id = ? AND backup_id = ? ORDER BY id DESC LIMIT 1`,
    write['device_id'] ?? null,
    backup,
  );
  return [{ event: 'restored', facts: { ...keyFacts(db, write['key_id']), backup, why: asked?.why ?? undefined } }];
}

/** A mark is told for each device that has the key on record, of those beyond this number only once for all of them. */
const MARKED_DEVICES = 300;

function devicesWith(db: Db, fingerprint: unknown): string[] {
  const found = db.all<{ id: string }>(
    `SELECT device_id AS id FROM keys WHERE fingerprint = :fingerprint
      UNION SELECT device_id FROM backups WHERE fingerprint = :fingerprint ORDER BY id LIMIT ${MARKED_DEVICES}`,
    { fingerprint },
  );
  return found.map(({ id }) => id);
}

function deviceOf(changes: readonly Change[]): string | undefined {
  const devices = new Set(changes.map(({ now }) => now['device_id']).filter(id => typeof id === 'string'));
  return devices.size === 1 ? [...devices][0] : undefined;
}

function runOf(db: Db, changes: readonly Change[]): number | undefined {
  for (const { table, now } of changes) {
    const run = table === 'runs' ? now['id'] : now['run_id'];
    if (typeof run === 'number') return run;
  }
  // A write and a backup name the attempt that they are part of.
  for (const { now } of changes) {
    const attempt = now['last_attempt_id'] ?? now['attempt_id'];
    if (typeof attempt !== 'number') continue;
    return db.get<{ run: number }>('SELECT run_id AS run FROM attempts WHERE id = ?', attempt)?.run;
  }
  return undefined;
}

function factsOf(db: Db, changes: readonly Change[]): Record<string, Fact | undefined> {
  const find = (table: string): Row | undefined => changes.find(change => change.table === table)?.now;
  const run = find('runs');
  const backup = find('backups');
  const row = find('rows');
  const send = find('sends');
  const release = find('releases');
  const mark = find('key_marks');
  const call = changes.findLast(({ table }) => table === 'cloud_calls')?.now;
  const write = find('writes');
  // A write tells of its own key, if it has one; sends of other keys may have changed beside it.
  const keyId = write ? write['key_id'] : (send?.['key_id'] ?? find('keys')?.['id']);
  const isAnswer = !write || ['accepted', 'refused', 'unknown'].includes(text(write['phase']) ?? '');
  return {
    ...(run && {
      job: text(run['job']),
      manifestSha256: text(run['manifest_sha256']),
      exitCode: number(run['exit_code']),
    }),
    ...(backup && {
      backup: number(backup['id']),
      sha256: text(backup['sha256']),
      classification: text(backup['classification']),
      fingerprint: text(backup['fingerprint']),
    }),
    ...(changes.length < 50 && row && { outcome: text(row['outcome']), code: text(row['code']) }),
    ...(send && isAnswer && { status: number(send['last_status']), reason: text(send['last_error']) }),
    ...(call && {
      call: text(call['kind']),
      product: text(call['product_id']),
      status: number(call['last_status']),
      reason: text(call['last_error']),
    }),
    ...(release && { why: text(release['why']) }),
    ...settingsOf(changes),
    ...firmwareOf(changes),
    ...(mark && { fingerprint: text(mark['fingerprint']), state: text(mark['state']), why: text(mark['why']) }),
    ...keyFacts(db, keyId),
  };
}

/** The modules that were seen to be others than before, and those that are to be there. */
function firmwareOf(changes: readonly Change[]): { modules?: string[]; wanted?: string[] } {
  const seen = changes.filter(({ table }) => table === 'modules').map(({ now }) => now);
  const flash = changes.filter(({ table }) => table === 'flashings').at(-1)?.now;
  const words = (slot: unknown, ...more: unknown[]): string =>
    [slot, ...more].filter(word => typeof word === 'string' || typeof word === 'number').join(' ');
  return {
    ...(seen.length > 0 && { modules: seen.map(row => words(row['slot'], row['state'], row['version'])) }),
    ...(flash && {
      wanted: readWanted(String(flash['wanted'])).map(({ slot, version }) => words(slot, version)),
    }),
  };
}

/** Which settings changed, by their names. */
function settingsOf(changes: readonly Change[]): { settings?: string[] } {
  const station = changes.find(
    ({ table, old, now }) => table === 'station' && old?.['configuration'] !== now['configuration'],
  );
  if (!station) return {};
  const read = (row: Row | null): Record<string, unknown> => {
    const text = row?.['configuration'];
    return typeof text === 'string' ? (JSON.parse(text) as Record<string, unknown>) : {};
  };
  const before = read(station.old);
  const now = read(station.now);
  const names = Object.keys({ ...before, ...now });
  return { settings: names.filter(name => JSON.stringify(before[name]) !== JSON.stringify(now[name])) };
}

/** The public side of a key. */
function keyFacts(db: Db, keyId: unknown): Record<string, Fact | undefined> {
  if (typeof keyId !== 'number') return {};
  return (
    db.get<{ generation: number; fingerprint: string }>(
      'SELECT generation, fingerprint FROM keys WHERE id = ?',
      keyId,
    ) ?? {}
  );
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
const number = (value: unknown): number | undefined => (typeof value === 'number' ? value : undefined);
