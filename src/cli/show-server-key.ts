import { sha256Hex, wipe } from '../core/bytes.ts';
import { timestamp } from '../core/clock.ts';
import { parseDeviceId } from '../core/device-id.ts';
import type { DeviceId } from '../core/device-id.ts';
import { Fault } from '../core/errors.ts';
import { parseServerKey, publicKeyFromSpki } from '../keys/public-key.ts';
import { DCT } from '../photon/dct.ts';
import { serverIn } from '../photon/server-field.ts';
import type { KnownBackup } from '../store/ops/restores.ts';
import type { Store } from '../store/store.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { KeysArgs } from './commands/keys.ts';
import { configOf, openRecord, readVault } from './compose.ts';

/**
 * `keys server --from DEVICE_ID`: the public key of the server that a device trusts, as PEM for `server.key`, from its newest
 * whole backup. Of the backup nothing else is shown, but for the server's address.
 * @throws Fault BACKUP_NOT_FOUND, VAULT_CLOSED, SERVER_KEY_INVALID
 */
export async function showServerKey(args: KeysArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const deviceId = deviceOf(args);
  const config = configOf(args, {}, context);
  await using store = await openRecord(config);
  const { backups } = await store.call('restorable', deviceId);
  const newest = backups.findLast(({ bytes }) => bytes === DCT.LENGTH);
  if (!newest) throw new Fault('BACKUP_NOT_FOUND', `no whole backup of device ${deviceId} was ever taken`);
  const where = `backup ${newest.backupId} of device ${deviceId}`;
  const vault = await readVault(config, store, args.identity);
  if (!vault) throw new Fault('VAULT_CLOSED', `${where} is sealed to nobody who is here`);
  const { fingerprint } = newest;
  const sealed = await sealedBackup(store, newest);
  const dct = await vault.open(sealed, { purpose: 'backup', deviceId, generation: null, fingerprint });
  try {
    if (dct.length !== DCT.LENGTH || sha256Hex(dct) !== newest.sha256) {
      throw new Fault('VAULT_SEALED_WRONG', `${where} is not the one that was hashed`);
    }
    const { key, host, port } = serverIn(dct);
    if (key === null) {
      throw new Fault(
        'SERVER_KEY_INVALID',
        `${where} holds no server key: the device uses the one built into its firmware`,
        {
          hint: '`server.key: builtin` in the configuration says the same of other devices',
        },
      );
    }
    // Its own copy: what lies behind it in the backup goes when that is wiped.
    const server = publicKeyFromSpki(Buffer.from(parseServerKey(key, where)));
    const taken = timestamp(newest.takenAt);
    if (args.json) {
      const { pem, fingerprint: of } = server;
      const all = { deviceId, backup: newest.backupId, takenAt: taken, pem, fingerprint: of, host, port };
      context.out.result(JSON.stringify(all));
    } else {
      context.out.talk(`from ${where}, taken ${taken}; its server is ${host ?? 'the built-in one'}, port ${port}`);
      context.out.result(server.pem.trimEnd());
    }
    return 0;
  } finally {
    wipe(dct);
  }
}

function deviceOf({ what, state, count, time, why, from }: KeysArgs): DeviceId {
  const others = [what, state, count, time, why];
  if (from === undefined || others.some(other => other !== undefined)) {
    throw new Fault('USAGE', 'keys server takes --from DEVICE_ID, and nothing else but --identity', {
      hint: '`photon-fleet keys server --from DEVICE_ID > server.pem`',
    });
  }
  const deviceId = parseDeviceId(from);
  if (!deviceId) throw new Fault('USAGE', '--from takes a device ID', { hint: 'a device ID has 24 hex digits' });
  return deviceId;
}

async function sealedBackup(store: Store, { backupId }: KnownBackup): Promise<Uint8Array> {
  const [backup] = await store.call('sealedBackups', { afterBackupId: backupId - 1, limit: 1 });
  if (backup?.backupId !== backupId) throw new Fault('BUG', `backup ${backupId} is not there any more`);
  return backup.sealed;
}
