import { createHash } from 'node:crypto';
import type { DeviceId } from '../core/device-id.ts';
import { APP_SECTION, DCT_END, firstCopies } from './photon-dct.ts';
import { makeMisreadRsa, makeReadableRsa, makeRsa } from './photon-rsa.ts';

/** What stands in the device-key field: `made` = a fresh pair that its firmware reads; the others as devices in the field have them. */
export type KeyKind = 'made' | 'blank' | 'zero' | 'pkcs8' | 'truncated' | 'misread';

export interface ImageOptions {
  readonly deviceId: DeviceId;
  readonly keys: KeyKind;
  /** Whether the DCT holds the ID (false: firmware 0.6 or newer never ran). */
  readonly idInDct: boolean;
  /** SPKI DER of the server key, 294 bytes; null: blank, the firmware uses its own. */
  readonly serverKey: Uint8Array | null;
  /** Beside the server key; the vendor's, if left out. */
  readonly serverAddress?: ServerAddress | undefined;
}

export interface ServerAddress {
  /** An IPv4 address. */
  readonly host: string;
  readonly port: number;
}

/** Field offsets and sizes in the application section. */
export const FIELD = {
  privateKey: [34, 1216],
  publicKey: [1250, 384],
  claimCode: [1762, 63],
  claimed: [1825, 1],
  ssidPrefix: [1826, 26],
  setupCode: [1852, 6],
  versionString: [1858, 32],
  serverKey: [2082, 768],
  serverAddress: [2082 + 384, 66],
  serverPort: [2082 + 450, 2],
  deviceId: [3618, 12],
  eap: [3823, 4296],
  deviceSecret: [8119, 15],
} as const;

/** Every fake credential begins so: a test looks for it in whatever a program leaves behind. */
export const FAKE_SECRET = 'WIFI-SECRET';

async function deviceKey(kind: KeyKind): Promise<{ privateKey: Uint8Array; publicKey: Uint8Array }> {
  switch (kind) {
    case 'made':
      return await makeReadableRsa();
    case 'pkcs8':
      return await makeRsa(1024, 'pkcs8');
    case 'misread':
      return await makeMisreadRsa();
    case 'truncated': {
      const { privateKey, publicKey } = await makeRsa(1024);
      return { privateKey: privateKey.subarray(0, 300), publicKey };
    }
    case 'zero':
      return { privateKey: new Uint8Array(FIELD.privateKey[1]), publicKey: new Uint8Array(FIELD.publicKey[1]) };
    case 'blank':
      return { privateKey: new Uint8Array(0), publicKey: new Uint8Array(0) };
  }
}

let sharedServerKey: Promise<Uint8Array> | undefined;

/** One RSA-2048 server key (SPKI DER) for all virtual devices of a process that are given none. */
export function defaultServerKey(): Promise<Uint8Array> {
  sharedServerKey ??= makeRsa(2048).then(({ publicKey }) => publicKey);
  return sharedServerKey;
}

function put(app: Buffer, [offset, size]: readonly [number, number], content: string | Uint8Array): void {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'ascii') : content;
  app.set(bytes.subarray(0, size), offset);
}

/** The two DCT copies and the sector behind them, by address, of a device fresh from use. */
export async function dctImage(options: ImageOptions): Promise<Map<number, Uint8Array>> {
  const { deviceId, serverKey } = options;
  const { privateKey, publicKey } = await deviceKey(options.keys);
  const digest = createHash('sha256').update(deviceId).digest();

  const app = Buffer.alloc(DCT_END, 0xff);
  app.fill(0, 0, 34);
  app.writeUInt16LE(0x1ade, 0);
  put(app, FIELD.privateKey, privateKey);
  put(app, FIELD.publicKey, publicKey);
  put(app, FIELD.claimed, '1');
  put(app, FIELD.ssidPrefix, 'Photon');
  put(app, FIELD.setupCode, digest.toString('hex', 0, 3).toUpperCase());
  put(app, FIELD.versionString, '0.7.0\0');
  if (serverKey) {
    put(app, FIELD.serverKey, serverKey);
    const { host, port } = options.serverAddress ?? { host: null, port: 0xffff };
    const [type, data] =
      host === null ? [1, Buffer.from('device.spark.io', 'ascii')] : [0, Buffer.from(host.split('.').map(Number))];
    put(app, FIELD.serverAddress, Buffer.concat([Buffer.from([type, data.length]), data]));
    put(app, FIELD.serverPort, Buffer.from([port >> 8, port & 0xff]));
  }
  if (options.idInDct) put(app, FIELD.deviceId, Buffer.from(deviceId, 'hex'));
  put(app, FIELD.eap, `${FAKE_SECRET}-${deviceId}-eap-identity\0${FAKE_SECRET}-${deviceId}-eap-password\0`);
  put(app, FIELD.deviceSecret, digest.toString('base64').slice(0, 15));

  const header = Buffer.alloc(APP_SECTION, 0xff);
  header.write(`ssid-of-${deviceId}\0${FAKE_SECRET}-${deviceId}-psk\0`, 64, 'ascii');

  const copies = firstCopies(header, app);
  // Where a read past the end lands while the second copy is in use: the user's own emulated EEPROM.
  const eeprom = Buffer.alloc(0x4000, 0xff);
  eeprom.write(`${FAKE_SECRET}-${deviceId}-eeprom\0`, 16, 'ascii');
  return copies.set(0x0800c000, eeprom);
}
