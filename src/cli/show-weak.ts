import { printable } from '../core/printable.ts';
import type { WeakDevice, Weakness } from '../store/ops/weak-keys.ts';
import type { CommandContext, GlobalArgs } from './command.ts';
import { configOf, openRecord } from './compose.ts';
import { EXIT } from './exit-codes.ts';

const DEVICES_AT_ONCE = 1000;

/** What the hand should do; where several hold for a device, the first of them in this order. */
const HINTS: Readonly<Record<Weakness, string>> = {
  'not-verified': 'put it into DFU mode and run its manifest again: the run finishes what was begun',
  compromised: '`photon-fleet run MANIFEST.csv --only-compromised` gives it a new key',
  misread: '`photon-fleet run MANIFEST.csv --only ID --again` gives it a new key',
  shared: '`photon-fleet run MANIFEST.csv --only ID --again` gives it a key of its own',
  'not-accepted':
    '`photon-fleet outbox` says why: `photon-fleet replay` sends it, `photon-fleet outbox retry ID` a refused one',
};

/** `audit weak`: devices whose key should not stay as it is. Read and told in pages, so that a fleet of any size fits. */
export async function showWeak(
  args: { json?: boolean | undefined } & GlobalArgs,
  context: CommandContext,
): Promise<number> {
  const { out } = context;
  await using store = await openRecord(configOf(args, {}, context));
  const reasons = new Map<Weakness, number>();
  let count = 0;
  let after: string | null = '';
  if (args.json) out.result('{"devices":[');
  while (after !== null) {
    const page: { weak: WeakDevice[]; next: string | null } = await store.call('weakDevices', {
      after,
      limit: DEVICES_AT_ONCE,
    });
    after = page.next;
    for (const device of page.weak) {
      out.result(args.json ? `${count === 0 ? '' : ','}${JSON.stringify(jsonOf(device))}` : lineOf(device));
      count += 1;
      for (const { reason } of device.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    }
  }
  if (args.json) out.result(']}');
  else if (count === 0) out.result('no device on record has a weak key');
  else for (const line of totals(count, reasons)) out.result(line);
  return count === 0 ? EXIT.OK : EXIT.SOME_FAILED;
}

function jsonOf({ deviceId, fingerprint, reasons }: WeakDevice): object {
  return {
    deviceId,
    reasons: reasons.map(({ reason }) => reason),
    fingerprint,
    details: reasons.map(({ detail }) => detail),
    hint: hintFor(reasons.map(({ reason }) => reason)),
  };
}

function lineOf({ deviceId, fingerprint, reasons }: WeakDevice): string {
  const why = reasons.map(({ detail }) => printable(detail)).join('; ');
  return `${deviceId}  ${(fingerprint ?? '-').slice(0, 16).padEnd(16)}  ${why}`;
}

function totals(count: number, reasons: ReadonlyMap<Weakness, number>): string[] {
  const found = weaknesses().filter(reason => reasons.has(reason));
  const counts = found.map(reason => `${reasons.get(reason) ?? 0} ${reason}`).join(', ');
  return [
    `\n${count} ${count === 1 ? 'device has a weak key' : 'devices have weak keys'}: ${counts}`,
    ...found.map(reason => `hint: ${reason}: ${HINTS[reason]}`),
  ];
}

function hintFor(reasons: readonly Weakness[]): string | null {
  const first = weaknesses().find(reason => reasons.includes(reason));
  return first === undefined ? null : HINTS[first];
}

function weaknesses(): Weakness[] {
  return Object.keys(HINTS) as Weakness[];
}
