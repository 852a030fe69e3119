import { existsSync } from 'node:fs';
import type { Config } from '../config/config.ts';
import { timestamp } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import type { Store } from '../store/store.ts';
import { checkRecipients, describeBinding } from '../vault/policy.ts';
import { workingFileOf } from '../vault/working-identities.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { VaultArgs } from './commands/vault.ts';
import { configOf, identityPath, openRecord, openRecordForWork, openVault, readVault } from './compose.ts';
import { EXIT } from './exit-codes.ts';
import { rewrapVault } from './rewrap-vault.ts';
import { checkWish } from './vault-choice.ts';

/** `vault`: how private material is sealed, and to whom. @returns the exit code */
export async function tendVault(args: VaultArgs & GlobalArgs, context: CommandContext): Promise<number> {
  checkArgs(args);
  // What is asked for by hand is a wish as the configuration's is.
  const config = configOf(args, { 'vault.policy': args.policy, 'vault.recipients': args.recipient }, context);
  switch (args.action) {
    case 'init':
      return await init(config, context);
    case 'rewrap':
      return await rewrapVault(config, args.identity, context);
    default:
      return await status(config, args.json === true, context);
  }
}

function checkArgs({ action, policy, recipient, identity, json }: VaultArgs): void {
  const unfit = [
    ...(action !== 'rewrap' && identity !== undefined ? ['--identity'] : []),
    ...(action === 'status' && policy !== undefined ? ['--policy'] : []),
    ...(action === 'status' && recipient !== undefined ? ['--recipient'] : []),
    ...(action !== 'status' && json ? ['--json'] : []),
  ];
  if (unfit.length > 0) {
    throw new Fault('USAGE', `vault ${action} does not take ${unfit.join(', ')}`, {
      hint: '`photon-fleet vault --help` shows what each of them takes',
    });
  }
  if (recipient) checkRecipients('escrow', recipient);
}

/** Binds the vault before the first run; makes the database if need be. */
async function init(config: Config, context: CommandContext): Promise<number> {
  const { out } = context;
  checkWish(config);
  await using store = await openRecordForWork(config, context.env, false);
  await openVault(config, store, { warn: message => out.talk(`warning: ${message}`) });
  const { bound } = await store.call('vaultState', undefined);
  if (!bound) throw new Fault('BUG', 'the vault was not bound');
  out.result(`${config.values.db}: the vault is ${describeBinding(bound)}`);
  switch (bound.policy) {
    case 'local':
      out.talk(`its identity lies in ${identityPath(config)}: keep a copy of it in a safe place`);
      break;
    case 'escrow':
      out.talk('this station seals, and can’t open: keep the identities of the recipients elsewhere');
      break;
    case 'none':
      out.talk('private keys and backups can’t be opened by anybody once their run has come to its end');
      break;
  }
  return EXIT.OK;
}

interface Status {
  readonly policy: string | null;
  readonly recipients: readonly string[];
  readonly keys: number;
  readonly backups: number;
  /** Key pairs made ahead. */
  readonly prepared: number;
  /** `run` null: that of the prepared key pairs. */
  readonly working: readonly {
    run: number | null;
    recipient: string;
    madeAt: string;
    inUse: boolean;
    there: boolean;
  }[];
  readonly opens: boolean;
  readonly rewrap: { policy: string; recipients: readonly string[] } | null;
}

async function status(config: Config, json: boolean, { out }: CommandContext): Promise<number> {
  await using store = await openRecord(config);
  const found = await statusOf(config, store);
  if (json) {
    out.result(JSON.stringify(found));
    return EXIT.OK;
  }
  const { policy, recipients, keys, backups, prepared, working, opens, rewrap } = found;
  out.result(`policy      ${policy ?? 'not bound yet: the first run does that'}`);
  for (const recipient of recipients) out.result(`recipient   ${recipient}`);
  out.result(`sealed      ${keys} private keys, ${backups} backups, ${prepared} prepared key pairs`);
  out.result(`opens here  ${opens ? 'yes: this station has the identity' : 'no'}`);
  for (const { run, madeAt, inUse, there } of working) {
    const needed = run === null ? 'pairs are prepared' : 'writes are open';
    const state = [inUse ? needed : 'not needed any more', ...(there ? [] : ['its file is gone'])].join(', ');
    out.result(`working     ${run === null ? 'prepared pairs' : `run ${run}`}, of ${madeAt}: ${state}`);
  }
  if (rewrap) {
    out.result(`rewrap      begun, to \`${rewrap.policy}\`, and not at its end: \`photon-fleet vault rewrap\` goes on`);
  }
  return EXIT.OK;
}

async function statusOf(config: Config, store: Store): Promise<Status> {
  const [{ bound, rewrap }, counts, working] = await Promise.all([
    store.call('vaultState', undefined),
    store.call('sealedCounts', undefined),
    store.call('workingIdentities', undefined),
  ]);
  return {
    policy: bound?.policy ?? null,
    recipients: bound?.recipients ?? [],
    ...counts,
    working: working.map(({ runId, recipient, madeAt, inUse }) => ({
      run: runId,
      recipient,
      madeAt: timestamp(madeAt),
      inUse,
      there: existsSync(workingFileOf(config.values.db, runId)),
    })),
    opens: bound?.policy === 'local' && (await readVault(config, store)) !== null,
    rewrap: rewrap && { policy: rewrap.policy, recipients: rewrap.recipients },
  };
}
