import { isIPv4 } from 'node:net';

/** Whether what is sent to this host stays on this machine. `host`: a name, or an address with or without brackets. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, '$1');
  return (
    name === 'localhost' || /^[a-z0-9.-]+\.localhost$/.test(name) || /^(::1|(::ffff:)?127(\.\d{1,3}){3})$/.test(name)
  );
}

/**
 * A host as the DCT's address block holds it: an IPv4 address, or a domain of at most 63 characters, since type, length
 * and a NUL take their share of its 66 bytes. @returns it in lower case, or null
 */
export function parseServerHost(text: string): string | null {
  const host = text.trim().toLowerCase();
  if (isIPv4(host)) return host;
  if (host.length > 63 || !/^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/.test(host)) return null;
  return /(^|\.)\d+$/.test(host) ? null : host; // a mistyped address (10.0.0.300) is no domain
}
