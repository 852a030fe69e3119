/** The parts of node-forge add themselves to one object, whose whole is described by @types/node-forge. */
declare module 'node-forge/lib/forge.js' {
  const forge: unknown;
  export default forge;
}
declare module 'node-forge/lib/asn1.js';
declare module 'node-forge/lib/rsa.js';
