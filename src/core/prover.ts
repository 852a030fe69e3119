/** Where a device is to connect to. */
export interface ServerAddress {
  /** An IPv4 address or a domain. */
  readonly host: string;
  readonly port: number;
}

/** What came of a handshake as far as its bytes go; what they are worth, whoever holds the keys finds out. */
export type Exchange =
  /** Exactly 384 bytes. */
  | { readonly kind: 'answered'; readonly answer: Uint8Array }
  /** The server took the 256 bytes and closed without a word. */
  | { readonly kind: 'closed' }
  /** Nothing that says anything of the keys: no route, no answer, too little, too much. */
  | { readonly kind: 'untried'; readonly reason: string };

/** What the session asks of the cloud's handshake, without knowing the wire. No private key passes here. */
export interface Prover {
  /** The server as configured, where it is: what stands in for one that is built into the firmware. */
  readonly server: {
    /** SPKI DER, 294 bytes. */
    readonly key: Uint8Array | null;
    readonly host: string | null;
    readonly port: number | null;
  };
  /** @param hello makes of the server's 40 bytes the 256 that it is sent */
  exchange(address: ServerAddress, hello: (nonce: Uint8Array) => Uint8Array): Promise<Exchange>;
}
