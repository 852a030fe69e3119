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

/** A row whose job sent something (or tried to) follows its send; any other stays without. */
export function currentCloud(settledAs: CloudState | null, sendState: string | null): CloudState {
  if (settledAs === null || settledAs === 'none') return 'none';
  return sendState === null ? settledAs : cloudOfSend(sendState);
}
