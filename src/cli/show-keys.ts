import { systemClock, timestamp } from '../core/clock.ts';
import { Fault } from '../core/errors.ts';
import { printable } from '../core/printable.ts';
import { when } from '../report/json.ts';
import { table } from '../report/table.ts';
import { bold } from '../report/terminal.ts';
import type { Mark, Marked } from '../store/ops/key-audit.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import type { KeysArgs } from './commands/keys.ts';
import { configOf, openRecord } from './compose.ts';
import { showKeyAt } from './show-key-at.ts';

const SHOWN_AT_ONCE = 300;
const MOST_WHY = 500;

/** `keys`: finds a key over the whole fleet, tells which was on a device, or puts down that one is compromised. */
export function tendKeys(args: KeysArgs & GlobalArgs, context: CommandContext): Promise<number> {
  if (args.count !== undefined) {
    throw new Fault('USAGE', `keys ${args.action} takes no --count`, {
      hint: '`photon-fleet keys prepare --count N` makes key pairs ahead',
    });
  }
  if (args.action !== 'mark' && (args.state !== undefined || args.why !== undefined)) {
    throw new Fault('USAGE', `keys ${args.action} takes neither a state nor --why`, {
      hint: '`photon-fleet keys mark FINGERPRINT compromised --why "…"` marks a key',
    });
  }
  if (args.from !== undefined || args.identity !== undefined) {
    throw new Fault('USAGE', `keys ${args.action} takes neither --from nor --identity`, {
      hint: '`photon-fleet keys server --from DEVICE_ID` prints the server key that a device trusts',
    });
  }
  if (args.action !== 'at' && args.time !== undefined) {
    throw new Fault('USAGE', `keys ${args.action} takes no --time`, {
      hint: '`photon-fleet keys at DEVICE_ID --time T` says which key was on a device',
    });
  }
  if (args.action === 'at') return showKeyAt(args, context);
  return args.action === 'mark' ? mark(args, context) : find(args, context);
}

/** Fingerprints are lower-case hex; people copy them in either case. */
function parsePrefix({ action, what: text }: KeysArgs): string {
  if (text === undefined) {
    throw new Fault('USAGE', `keys ${action} takes a fingerprint`, { hint: 'its first 4 digits or more will do' });
  }
  const prefix = text.trim().toLowerCase();
  if (/^[0-9a-f]{4,64}$/.test(prefix)) return prefix;
  throw new Fault('USAGE', `${JSON.stringify(text.slice(0, 70))} is no fingerprint`, {
    hint: 'a fingerprint has 64 hex digits; the first 4 or more will do',
  });
}

async function find(args: KeysArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const prefix = parsePrefix(args);
  await using store = await openRecord(configOf(args, {}, context));
  const { found, more } = await store.call('findKeys', { prefix, limit: SHOWN_AT_ONCE });
  if (found.length === 0) {
    throw new Fault('KEY_NOT_FOUND', `no key on record has a fingerprint that begins with ${prefix}`);
  }
  if (args.json) {
    const keys = found.map(({ since, ...key }) => ({ ...key, since: when(since) }));
    context.out.result(JSON.stringify({ prefix, keys, more }));
    return 0;
  }
  context.out.result(
    table(
      ['DEVICE', 'WHERE', 'FINGERPRINT', 'STATE', 'SINCE', 'ON IT NOW', 'WHY'],
      found.map(key => [
        key.deviceId,
        key.generation === null ? `backup ${key.backup ?? ''}` : `key ${key.generation}`,
        key.fingerprint.slice(0, 16),
        key.state,
        when(key.since),
        key.onDevice ? 'yes' : 'no',
        key.reason,
      ]),
    ),
  );
  if (more > 0) context.out.result(`and ${more} more: name more digits of the fingerprint`);
  return 0;
}

async function mark(args: KeysArgs & GlobalArgs, context: CommandContext): Promise<number> {
  const prefix = parsePrefix(args);
  if (args.state === undefined) {
    throw new Fault('USAGE', 'keys mark takes what has become of the key', {
      hint: 'name it: compromised or destroyed',
    });
  }
  const why = args.why?.trim() ?? '';
  if (why === '' || why.length > MOST_WHY) {
    throw new Fault('USAGE', `a key is marked with a reason${why === '' ? '' : ` of at most ${MOST_WHY} characters`}`, {
      hint: 'add --why "…"; it goes on record',
    });
  }
  await using store = await openRecord(configOf(args, {}, context));
  const state = args.state as Mark;
  const marked = await store.call('markKey', { prefix, state, why, at: systemClock.now() });
  if (args.json) {
    const { at, ...rest } = marked;
    context.out.result(JSON.stringify({ ...rest, at: when(at) }));
    return 0;
  }
  printMarked(marked, context);
  return 0;
}

function printMarked(marked: Marked, { out }: CommandContext): void {
  const { fingerprint, state, shownAs, already, carriers, devices, more } = marked;
  const why = printable(marked.why, MOST_WHY);
  if (already) {
    out.result(`key ${bold(fingerprint)} is marked ${state} already, since ${timestamp(marked.at)}: ${why}`);
    out.result('nothing was put down');
  } else {
    out.result(`key ${bold(fingerprint)} is marked ${state}: ${why}`);
  }
  if (shownAs !== state) out.result(`it stays shown as ${shownAs}`);
  const count = (ids: readonly string[]): string => (ids.length === 1 ? '1 device' : `${ids.length} devices`);
  const some = more > 0 ? ` (${more} more places were not looked at)` : '';
  out.result(`on record for ${count(devices)}${some}, on ${count(carriers)} now${carriers.length > 0 ? ':' : ''}`);
  for (const id of carriers.slice(0, 10)) out.result(`  ${id}`);
  if (carriers.length > 10) out.result(`  and ${carriers.length - 10} more: \`photon-fleet keys find\` lists them`);
  if (state === 'compromised' && carriers.length > 0) {
    out.talk('hint: `photon-fleet run MANIFEST.csv --only-compromised` gives them new keys');
  }
}
