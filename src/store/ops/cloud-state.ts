import type { CloudState } from '../../core/outcomes.ts';

/** Where the cloud stands with a key, told from the state of its send. */
export function cloudOfSend(state: string | null): CloudState {
  switch (state) {
    case 'accepted':
      return 'accepted';
    case 'held':
    case 'pending':
      return 'pending';
    case 'refused':
      return 'refused';
    default:
      return 'none'; // superseded, dropped, or no key at all
  }
}

/** Where the calls of a device stand, `settled` being done or dropped; null: it has none on record. */
export type CallsState = 'pending' | 'refused' | 'settled' | null;

/** A row whose job asked the cloud for something follows its send and the calls of its device; any other stays without. */
export function currentCloud(
  settledAs: CloudState | null,
  sendState: string | null,
  calls: CallsState = null,
): CloudState {
  if (settledAs === null || settledAs === 'none') return 'none';
  const told = sendState === null ? settledAs : cloudOfSend(sendState);
  if (calls === null || (told === 'refused' && sendState !== null)) return told;
  if (calls !== 'settled') return calls;
  return sendState === null ? 'accepted' : told;
}
