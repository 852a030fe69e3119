/*
 * In the place of the kinds of recipients and identities that age's package brings, those of browsers too
 * (rolldown.config.js). A vault takes none of them, it brings its own (x25519.ts), and they load ten times as much code as all
 * the rest: curves, and what resists quantum computers.
 */

/** Called or constructed. */
function leftOut(): never {
  throw new Error('the build leaves out the recipients of the package');
}

export {
  leftOut as HybridIdentity,
  leftOut as HybridRecipient,
  leftOut as HybridTagRecipient,
  leftOut as ScryptIdentity,
  leftOut as ScryptRecipient,
  leftOut as TagRecipient,
  leftOut as X25519Identity,
  leftOut as X25519Recipient,
  leftOut as generateHybridIdentity,
  leftOut as generateIdentity,
  leftOut as generateX25519Identity,
  leftOut as identityToRecipient,
};
