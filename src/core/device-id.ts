declare const deviceIdBrand: unique symbol;

/** A device ID: 24 lower-case hexadecimal digits (the 96-bit unique ID of the STM32). */
export type DeviceId = string & { readonly [deviceIdBrand]: true };

/** @returns the ID in lower case, or null where `text` is not one; surrounding white space is dropped. */
export function parseDeviceId(text: string): DeviceId | null {
  const id = text.trim().toLowerCase();
  return /^[0-9a-f]{24}$/.test(id) ? (id as DeviceId) : null;
}
