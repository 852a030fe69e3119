import type whole from 'node-forge';
import forge from 'node-forge/lib/forge.js';
import 'node-forge/lib/asn1.js';
import 'node-forge/lib/rsa.js';

/** What of node-forge reads and writes keys; the rest, which is five times as much, is never loaded. */
export const { asn1, jsbn, pki } = forge as typeof whole;
