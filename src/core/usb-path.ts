declare const usbPathBrand: unique symbol;

/** Where a device hangs: `bus-port.port…`, as the Linux kernel writes it; on a rack `HOST:PORT/bus-port.port…`. */
export type UsbPath = string & { readonly [usbPathBrand]: true };

const LOCAL = /^[1-9][0-9]{0,3}-[1-9][0-9]{0,2}(\.[1-9][0-9]{0,2}){0,6}$/;

/** @returns the path, or null where `text` is not one. */
export function parseUsbPath(text: string): UsbPath | null {
  const trimmed = text.trim();
  const slash = trimmed.lastIndexOf('/');
  const local = trimmed.slice(slash + 1);
  if (!LOCAL.test(local)) return null;
  if (slash >= 0 && !/^[\w.\[\]:%-]+:\d{1,5}$/.test(trimmed.slice(0, slash))) return null;
  return trimmed as UsbPath;
}

/** The path of a device on a rack: the rack's address before its path there. */
export function onRack(rack: string, path: UsbPath): UsbPath {
  return `${rack}/${path}` as UsbPath;
}

/** The hub that a device hangs on: its path without the last port; on a root port, the root hub as sysfs names it (`usb3`). */
export function hubOf(path: UsbPath): string {
  const slash = path.lastIndexOf('/');
  const rack = path.slice(0, slash + 1);
  const local = path.slice(slash + 1);
  const dot = local.lastIndexOf('.');
  return rack + (dot >= 0 ? local.slice(0, dot) : `usb${local.slice(0, local.indexOf('-'))}`);
}

let byNumber: Intl.Collator | undefined;

/** Orders paths as people count sockets: 1-2.9 before 1-2.10. */
export function comparePaths(a: string, b: string): number {
  byNumber ??= new Intl.Collator('en', { numeric: true }); // a hundred times the cost of a comparison
  return byNumber.compare(a, b);
}
