import type { UsbPath } from '../core/usb-path.ts';

/**
 * The seam to USB: the few members of W3C WebUSB's `USBDevice` that DFU needs, plus where the device hangs.
 * Implementations: webusb.ts (this host's bus), usbip.ts (a rack on another host), and the virtual rack in sim/.
 *
 * Conventions on top of the standard:
 * - a stalled control transfer resolves with `status: 'stall'`, it does not throw;
 * - everything else that goes wrong throws a Fault: USB_GONE (left the bus), USB_TIMEOUT, USB_ACCESS, USB_BUSY,
 *   USB_IO, DESCRIPTOR_INVALID;
 * - transfers that are asked for at once, without waiting for each other, are carried out in the order of asking, and a new
 *   alternate setting among them; where one throws, those behind it are withdrawn and throw the same, and a stalled transfer is
 *   no reason for that;
 * - every transfer takes a timeout in milliseconds, which is never optional; its time begins with its turn. After a timeout
 *   the request has been cancelled on the host; the device may still carry it out.
 */
export interface UsbPort {
  readonly path: UsbPath;
  readonly hub: string;
  /** Differs when another device (or the same one anew) hangs at the path: the address on the bus, where there is one. */
  readonly instance: string;
  readonly vendorId: number;
  readonly productId: number;
  /** bcdDevice, the device's release number (0x0250). */
  readonly release: number;
  /** iSerialNumber as text; null: it has none or it can't be decoded; undefined: only the device itself tells (USB/IP). */
  readonly serialNumber: string | null | undefined;
  readonly opened: boolean;
  open(): Promise<void>;
  /** Never throws, and may be called more than once. */
  close(): Promise<void>;
  claimInterface(interfaceNumber: number): Promise<void>;
  releaseInterface(interfaceNumber: number): Promise<void>;
  selectAlternateInterface(interfaceNumber: number, alternateSetting: number): Promise<void>;
  controlTransferIn(setup: ControlSetup, length: number, timeoutMs: number): Promise<InResult>;
  controlTransferOut(setup: ControlSetup, data: Uint8Array, timeoutMs: number): Promise<OutResult>;
  /**
   * Opens the device's serial port at 14400 baud for a moment, by which Device OS of any version starts in DFU mode. Only where
   * the host has such a port. @returns whether it was done
   */
  touchSerial?(): Promise<boolean>;
  /** A reset of the port. The device re-enumerates; the handle is of no use afterwards. */
  reset(): Promise<void>;
}

/** USB 2.0, 9.3: the setup packet, as WebUSB spells it. */
export interface ControlSetup {
  readonly requestType: 'standard' | 'class' | 'vendor';
  readonly recipient: 'device' | 'interface' | 'endpoint' | 'other';
  readonly request: number;
  readonly value: number;
  readonly index: number;
}

export type InResult = { readonly status: 'ok'; readonly data: Uint8Array } | { readonly status: 'stall' };
export type OutResult = { readonly status: 'ok'; readonly bytesWritten: number } | { readonly status: 'stall' };

/** A place where devices come and go: this host's bus, a rack, a virtual rack. */
export interface UsbBus {
  /** For messages: `usb`, `HOST:PORT`, `sim`. */
  readonly name: string;
  /** Every device there now; one that has stayed may be the same object as before. Throws USB_UNAVAILABLE or RACK_UNREACHABLE. */
  list(): Promise<UsbPort[]>;
  /** Whether a change, as `onChange` calls back for it, may be an arrival. A rack tells of none. */
  readonly tellsOfArrivals?: boolean;
  /** Calls back when something may have come or gone; events can be lost, so a caller lists from time to time too. */
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}
