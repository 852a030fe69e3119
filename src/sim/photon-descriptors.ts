import { DESCRIPTOR, LANGUAGE_EN_US } from '../usb/setup-packet.ts';

/** The boards that can be made. All have the same chip and the same DFU bootloader. */
export const PLATFORMS = {
  photon: { id: 6, productId: 0xd006, product: 'Photon DFU Mode' },
  p1: { id: 8, productId: 0xd008, product: 'P1 DFU Mode' },
  electron: { id: 10, productId: 0xd00a, product: 'Electron DFU Mode' },
} as const;
export type Platform = keyof typeof PLATFORMS;

export const VENDOR_ID = 0x2b04;
export const TRANSFER_SIZE = 4096;

const FLASH_NAME = '@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg';
const DCT_NAME = '@DCT Flash   /0x00000000/01*016Kg';
const SERIAL_FLASH_NAME = '@Serial Flash   /0x00000000/256*004Kg';

/** String descriptors 1 to 5 are the driver's own; those of the alternate settings follow. */
const FIRST_ALTERNATE_STRING = 6;
const SERIAL_STRING = 3;

export interface PhotonIdentity {
  readonly platform: Platform;
  /** bcdDevice: 0x0200 (Device OS 0.5.5 and older) or 0x0250. */
  readonly release: number;
  /** iSerialNumber; null: the descriptor names none. */
  readonly serial: string | null;
}

export function alternateNames(platform: Platform): readonly string[] {
  return platform === 'p1' ? [FLASH_NAME, DCT_NAME, SERIAL_FLASH_NAME] : [FLASH_NAME, DCT_NAME];
}

function deviceDescriptor(of: PhotonIdentity): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.set([18, DESCRIPTOR.device, 0x00, 0x02, 0, 0, 0, 64]);
  bytes.writeUInt16LE(VENDOR_ID, 8);
  bytes.writeUInt16LE(PLATFORMS[of.platform].productId, 10);
  bytes.writeUInt16LE(of.release, 12);
  bytes.set([1, 2, of.serial === null ? 0 : SERIAL_STRING, 1], 14);
  return bytes;
}

/** DFU functional descriptor: attributes 0x0B, detach timeout 255 ms, 4096 bytes, DfuSe 1.1a. */
const FUNCTIONAL = Buffer.from([9, 0x21, 0x0b, 0xff, 0x00, TRANSFER_SIZE & 0xff, TRANSFER_SIZE >> 8, 0x1a, 0x01]);

function configurationDescriptor(platform: Platform): Buffer {
  const alternates = alternateNames(platform).map((_, n) =>
    Buffer.from([9, 4, 0, n, 0, 0xfe, 0x01, 0x02, FIRST_ALTERNATE_STRING + n]),
  );
  const length = 9 + 9 * alternates.length + FUNCTIONAL.length;
  const head = Buffer.from([9, DESCRIPTOR.configuration, length, 0, 1, 1, 2, 0xc0, 0x32]);
  return Buffer.concat([head, ...alternates, FUNCTIONAL]);
}

function stringDescriptor(text: string): Buffer {
  const units = Buffer.from(text.slice(0, 126), 'utf16le');
  return Buffer.concat([Buffer.from([units.length + 2, DESCRIPTOR.string]), units]);
}

function stringOf(identity: PhotonIdentity, index: number): string | undefined {
  switch (index) {
    case 1:
      return 'Particle';
    case 2:
      return PLATFORMS[identity.platform].product;
    case SERIAL_STRING:
      return identity.serial ?? undefined;
    case 4:
      return 'DFU Config';
    case 5:
      return 'DFU Interface';
    default:
      return alternateNames(identity.platform)[index - FIRST_ALTERNATE_STRING];
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
      return which === 0 ? configurationDescriptor(identity.platform) : undefined;
    case DESCRIPTOR.string: {
      if (which === 0) return Buffer.from([4, DESCRIPTOR.string, LANGUAGE_EN_US & 0xff, LANGUAGE_EN_US >> 8]);
      if (index !== LANGUAGE_EN_US) return undefined;
      const text = stringOf(identity, which);
      return text === undefined ? undefined : stringDescriptor(text);
    }
    case FUNCTIONAL[1]:
      return FUNCTIONAL;
    default:
      return undefined;
  }
}
