import type { DeviceId } from '../core/device-id.ts';
import type { UsbPath } from '../core/usb-path.ts';

/**
 * Device or socket? A device that fails in two sockets is bad; a socket in which different devices fail is bad, and takes
 * no more of them in this run. Devices that are known to be bad themselves say nothing about a socket.
 */
export class Sockets {
  /** Where each device failed, in this run and in earlier attempts that count. */
  readonly #failedAt = new Map<DeviceId, Set<string>>();
  readonly #failedHere = new Map<UsbPath, Set<DeviceId>>();
  readonly #bad = new Set<UsbPath>();

  isBad(path: UsbPath): boolean {
    return this.#bad.has(path);
  }

  /**
   * Takes note of a failure that counts against the device.
   * @param earlierPaths where it failed in earlier attempts
   * @returns where else the device failed, if it did; and whether the socket is found to be bad just now
   */
  failed(
    path: UsbPath,
    deviceId: DeviceId,
    earlierPaths: readonly string[],
  ): { readonly elsewhere: string | null; readonly socketTurnedBad: boolean } {
    const paths = this.#failedAt.get(deviceId) ?? new Set(earlierPaths);
    paths.add(path);
    this.#failedAt.set(deviceId, paths);
    const elsewhere = [...paths].find(other => other !== path) ?? null;
    const here = this.#failedHere.get(path) ?? new Set();
    this.#failedHere.set(path, here);
    if (elsewhere !== null) {
      for (const devices of this.#failedHere.values()) devices.delete(deviceId);
      return { elsewhere, socketTurnedBad: false };
    }
    here.add(deviceId);
    const turned = here.size > 1 && !this.#bad.has(path);
    if (turned) this.#bad.add(path);
    return { elsewhere: null, socketTurnedBad: turned };
  }
}
