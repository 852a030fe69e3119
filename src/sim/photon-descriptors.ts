import { DESCRIPTOR, LANGUAGE_EN_US } from '../usb/setup-packet.ts';

/** The boards that can be made, with what they call themselves in each mode. All have the same chip and DFU bootloader. */
export const PLATFORMS = {
  photon: {
    id: 6,
    dfu: { productId: 0xd006, product: 'Photon DFU Mode' },
    normal: { productId: 0xc006, product: 'Photon' },
  },
  p1: { id: 8, dfu: { productId: 0xd008, product: 'P1 DFU Mode' }, normal: { productId: 0xc008, product: 'P1' } },
  electron: {
    id: 10,
    dfu: { productId: 0xd00a, product: 'Electron DFU Mode' },
    normal: { productId: 0xc00a, product: 'Electron' },
  },
} as const;
export type Platform = keyof typeof PLATFORMS;

/** Who answers on the bus: the bootloader, or the firmware. */
export type UsbMode = 'dfu' | 'normal';

export const VENDOR_ID = 0x2b04;
export const TRANSFER_SIZE = 4096;

/** What can be wrong with the descriptors of a device that is otherwise as it should be. */
export const DESCRIPTOR_FLAWS = ['truncated', 'lying', 'no-functional', 'utf16', 'transfer-size'] as const;
export type DescriptorFlaw = (typeof DESCRIPTOR_FLAWS)[number];

/** `other`: something else that answers with a Photon's vendor and product ID. */
export type Product = 'photon' | 'other';

const FLASH_NAME = '@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg';
const DCT_NAME = '@DCT Flash   /0x00000000/01*016Kg';
const SERIAL_FLASH_NAME = '@Serial Flash   /0x00000000/256*004Kg';

/** What ST's own bootloader of this chip says of two of its memories. */
const OTHER_NAMES = [
  '@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg',
  '@Option Bytes  /0x1FFFC000/01*016 e',
] as const;

/** String descriptors 1 to 5 are the driver's own; those of the alternate settings follow. */
const FIRST_ALTERNATE_STRING = 6;
export const SERIAL_STRING = 3;

export interface PhotonIdentity {
  readonly mode: UsbMode;
  readonly platform: Platform;
  /** bcdDevice: 0x0200 (bootloaders of Device OS 0.5.5 and older) or 0x0250. */
  readonly release: number;
  /** iSerialNumber; null: the descriptor names none. */
  readonly serial: string | null;
  readonly product: Product;
  readonly flaws: readonly DescriptorFlaw[];
}

export function productIdOf({ platform, mode }: PhotonIdentity): number {
  return PLATFORMS[platform][mode].productId;
}

/**
 * Class, subclass and protocol of the one interface: DFU's; and in normal mode a vendor's own without endpoints. There a
 * real device has its CDC serial port as well, which is not played.
 */
export function interfaceKind({ mode }: PhotonIdentity): readonly [number, number, number] {
  return mode === 'dfu' ? [0xfe, 0x01, 0x02] : [0xff, 0xff, 0xff];
}

/** How many alternate settings the interface has. */
export function alternateCount(of: PhotonIdentity): number {
  return of.mode === 'dfu' ? alternateNames(of).length : 1;
}

function alternateNames({ product, platform }: PhotonIdentity): readonly string[] {
  if (product === 'other') return OTHER_NAMES;
  return platform === 'p1' ? [FLASH_NAME, DCT_NAME, SERIAL_FLASH_NAME] : [FLASH_NAME, DCT_NAME];
}

function deviceDescriptor(of: PhotonIdentity): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.set([18, DESCRIPTOR.device, 0x00, 0x02, 0, 0, 0, 64]);
  bytes.writeUInt16LE(VENDOR_ID, 8);
  bytes.writeUInt16LE(productIdOf(of), 10);
  bytes.writeUInt16LE(of.release, 12);
  bytes.set([1, 2, of.serial === null ? 0 : SERIAL_STRING, 1], 14);
  return bytes;
}

const DFU_FUNCTIONAL = 0x21;

/** DFU functional descriptor: attributes 0x0B, detach timeout 255 ms, 4096 bytes, DfuSe 1.1a. */
function functionalDescriptor({ mode, flaws }: PhotonIdentity): Buffer | undefined {
  if (mode !== 'dfu' || flaws.includes('no-functional')) return undefined;
  const size = flaws.includes('transfer-size') ? 2048 : TRANSFER_SIZE;
  const length = flaws.includes('lying') ? 0xff : 9;
  return Buffer.from([length, DFU_FUNCTIONAL, 0x0b, 0xff, 0x00, size & 0xff, size >> 8, 0x1a, 0x01]);
}

/** In the midst of the second alternate setting. */
const TRUNCATED_BYTES = 23;

function configurationDescriptor(of: PhotonIdentity): Buffer {
  const alternates = Array.from({ length: alternateCount(of) }, (_, n) =>
    Buffer.from([9, 4, 0, n, 0, ...interfaceKind(of), of.mode === 'dfu' ? FIRST_ALTERNATE_STRING + n : 0]),
  );
  const functional = functionalDescriptor(of) ?? Buffer.alloc(0);
  const head = Buffer.from([9, DESCRIPTOR.configuration, 0, 0, 1, 1, 2, 0xc0, 0x32]);
  const whole = Buffer.concat([head, ...alternates, functional]);
  whole.writeUInt16LE(of.flaws.includes('lying') ? 0xffff : whole.length, 2);
  return of.flaws.includes('truncated') ? whole.subarray(0, TRUNCATED_BYTES) : whole;
}

function stringDescriptor(text: string): Buffer {
  const units = Buffer.from(text.slice(0, 126), 'utf16le');
  return withLength(Buffer.concat([Buffer.from([0, DESCRIPTOR.string]), units]));
}

/** No UTF-16: half a unit too much where the index is odd (the serial among them), else half a pair of surrogates. */
function spoiltString(text: string, index: number): Buffer {
  const end = index % 2 === 1 ? [0x40] : [0x3d, 0xd8];
  return withLength(Buffer.concat([stringDescriptor(text), Buffer.from(end)]));
}

function withLength(bytes: Buffer): Buffer {
  bytes.writeUInt8(bytes.length, 0);
  return bytes;
}

function stringOf(identity: PhotonIdentity, index: number): string | undefined {
  switch (index) {
    case 1:
      return identity.product === 'other' ? 'STMicroelectronics' : 'Particle';
    case 2:
      return identity.product === 'other' ? 'STM32  BOOTLOADER' : PLATFORMS[identity.platform][identity.mode].product;
    case SERIAL_STRING:
      return identity.serial ?? undefined;
  }
  if (identity.mode !== 'dfu') return undefined;
  switch (index) {
    case 4:
      return 'DFU Config';
    case 5:
      return 'DFU Interface';
    default:
      return alternateNames(identity)[index - FIRST_ALTERNATE_STRING];
  }
}

/**
 * The answer to GET_DESCRIPTOR.
 * @param value wValue: type in the high byte, index in the low one
 * @returns undefined where the device stalls (device qualifier among them: it is a full-speed device)
 */
export function descriptor(identity: PhotonIdentity, value: number, index: number): Buffer | undefined {
  const type = value >> 8;
  const which = value & 0xff;
  switch (type) {
    case DESCRIPTOR.device:
      return deviceDescriptor(identity);
    case DESCRIPTOR.configuration:
      return which === 0 ? configurationDescriptor(identity) : undefined;
    case DESCRIPTOR.string: {
      if (which === 0) return Buffer.from([4, DESCRIPTOR.string, LANGUAGE_EN_US & 0xff, LANGUAGE_EN_US >> 8]);
      if (index !== LANGUAGE_EN_US) return undefined;
      const text = stringOf(identity, which);
      if (text === undefined) return undefined;
      return identity.flaws.includes('utf16') ? spoiltString(text, which) : stringDescriptor(text);
    }
    case DFU_FUNCTIONAL:
      return functionalDescriptor(identity);
    default:
      return undefined;
  }
}
