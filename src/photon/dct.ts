/**
 * The DCT of a Photon or P1 as its bootloader shows it on alternate setting 1 (device-os, platform/MCU/STM32F2xx:
 * dct.h). Offsets and lengths in bytes.
 */
export const DCT = {
  /** The structure ends here; what lies behind it is never read, stored or written. */
  LENGTH: 8391,
  /** The bootloader may change these by itself, so comparisons leave them out. */
  FLAGS: { offset: 0, length: 32 },
  DEVICE_PRIVATE_KEY: { offset: 34, length: 1216 },
  DEVICE_PUBLIC_KEY: { offset: 1250, length: 384 },
  /** 63 characters without a NUL; published at the next connect, which claims the device. */
  CLAIM_CODE: { offset: 1762, length: 63 },
  SERVER_PUBLIC_KEY: { offset: 2082, length: 768 },
  /** Inside the server key's field: type, length, 64 bytes of data. */
  SERVER_ADDRESS: { offset: 2082 + 384, length: 66 },
  /** Big endian; 0 or 0xFFFF means 5683. */
  SERVER_PORT: { offset: 2082 + 450, length: 2 },
  DEVICE_ID: { offset: 3618, length: 12 },
} as const;

/** What the firmware reads of the private key's field. */
export const FIRMWARE_PRIVATE_KEY_BYTES = 612;

/**
 * The DCT's two raw copies in the internal flash, 16 KB each, side by side. They can be read where the bootloader's own
 * way to the DCT leads through system parts that are broken.
 */
export const RAW_DCT_COPIES = { address: 0x0800_4000, length: 0x8000 } as const;

/** Alternate settings by the beginning of their names. */
export const ALTERNATE = { FLASH: '@Internal Flash', DCT: '@DCT Flash' } as const;

export interface Field {
  readonly offset: number;
  readonly length: number;
}

/** The bytes of a field within a DCT that begins at 0. */
export function fieldOf(dct: Uint8Array, field: Field): Uint8Array {
  return dct.subarray(field.offset, field.offset + field.length);
}
