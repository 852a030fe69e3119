/** What became of one send. Only `accepted` and `refused` are final; after `unknown` a repeat is harmless. */
export type CloudAnswer =
  | { readonly kind: 'accepted'; readonly status: number }
  /** It will not take this key for this device, today. Some servers have stored it all the same. */
  | { readonly kind: 'refused'; readonly status: number; readonly reason: string }
  /** The token is bad: nothing else will fare better. */
  | { readonly kind: 'unauthorized'; readonly status: number; readonly reason: string }
  /**
   * Nobody can say. `status` is null where no answer came; `retryAfterMs` is what the server asked for, at most a day.
   */
  | {
      readonly kind: 'unknown';
      readonly status: number | null;
      readonly reason: string;
      readonly retryAfterMs: number | null;
      /** Nobody has said that it is over: the request may yet be carried out, after whatever is sent next. */
      readonly mayLandLate: boolean;
    };

/** An answer as it came, before it is judged. */
export interface RawAnswer {
  readonly status: number;
  readonly statusText: string;
  /** The header Retry-After, as it stands. */
  readonly retryAfter: string | null;
  /** At most 64 KiB of it; empty where it could not be read. */
  readonly body: string;
}
