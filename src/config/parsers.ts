import { isIPv6 } from 'node:net';
import { parseUsbPath, type UsbPath } from '../core/usb-path.ts';

/** When a run stops for its failures: after so many, or at such a part of the rows. */
export type MaxFail = { readonly count: number } | { readonly percent: number };

/** `5` or `5%`. @returns null where it is neither. */
export function parseMaxFail(text: string): MaxFail | null {
  const match = /^(\d{1,6})(\.\d{1,3})?(%)?$/.exec(text.trim());
  if (!match) return null;
  const [, whole = '', fraction, percent] = match;
  const value = Number(whole + (fraction ?? ''));
  if (percent !== undefined) return value <= 100 ? { percent: value } : null;
  return fraction === undefined ? { count: value } : null;
}

/** A rack's `HOST:PORT`, the host a name, an IPv4 address or an IPv6 address in brackets; in lower case, or null. */
export function parseRack(text: string): string | null {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]{1,253})):(\d{1,5})$/i.exec(text.trim());
  if (!match) return null;
  const [, six, name = '', digits] = match;
  const port = Number(digits);
  if ((six !== undefined && !isIPv6(six)) || port < 1 || port > 65_535) return null;
  return `${six === undefined ? name.toLowerCase() : `[${six.toLowerCase()}]`}:${port}`;
}

/** The cloud's base URL, without a slash at its end; null unless it is http(s) without credentials, query or fragment. */
export function parseCloudUrl(text: string): string | null {
  const trimmed = text.trim();
  if (!/^https?:\/\//i.test(trimmed) || /[?#\s\\]/.test(trimmed) || !URL.canParse(trimmed)) return null;
  const url = new URL(trimmed);
  if (url.username !== '' || url.password !== '' || /^[^/]*\/\/[^/]*@/.test(trimmed)) return null;
  return url.href.replace(/\/+$/, '');
}

/** A product's number or slug. */
export function parseProductId(text: string): string | null {
  const id = text.trim();
  return /^(\d{1,10}|[a-z0-9][a-z0-9_-]{0,99})$/i.test(id) ? id : null;
}

/** A socket's name: printable, at most 64 characters, and nothing that could be taken for a USB path. */
export function isSocketName(name: string): boolean {
  return /^[^\p{C}\p{Zl}\p{Zp},"]{1,64}$/u.test(name) && name.trim() === name && parseUsbPath(name) === null;
}

/** The first name whose socket has another name already: in a report the two could not be told apart. */
export function doubledSocket(sockets: Readonly<Record<string, UsbPath>>): string | null {
  const seen = new Set<UsbPath>();
  for (const [name, path] of Object.entries(sockets)) {
    if (seen.has(path)) return name;
    seen.add(path);
  }
  return null;
}

/** An age recipient in its form; whether it is one, with its checksum, is found by the vault. */
export function parseRecipient(text: string): string | null {
  const trimmed = text.trim();
  return /^age1[02-9ac-hj-np-z]{58}$/.test(trimmed) ? trimmed : null;
}
