import type { DeviceId } from '../core/device-id.ts';
import type { CloudAnswer } from './answer.ts';
import { cloudRequests } from './ask.ts';
import type { CloudClientOptions } from './ask.ts';

export type { CloudAnswer } from './answer.ts';
export type { CloudClientOptions } from './ask.ts';

/** A public key on its way. */
export interface PublicKeySend {
  readonly deviceId: DeviceId;
  /** SPKI PEM: `BEGIN PUBLIC KEY`. A server may take other forms, and the device never connects. */
  readonly publicKeyPem: string;
  readonly productId: string | null;
  /** When the send was made, epoch ms. */
  readonly orderMs: number;
}

export interface CloudClient {
  /**
   * Tells the cloud a device's key. Never throws: what goes wrong on the way is `unknown`, an abort by the signal too,
   * since the server may have carried it out.
   */
  sendPublicKey(send: PublicKeySend, signal?: AbortSignal): Promise<CloudAnswer>;
}

/** @throws Fault CLOUD_INSECURE where the token would go in clear over a network; CONFIG_INVALID where a value is unfit */
export function createCloudClient(options: CloudClientOptions): CloudClient {
  const ask = cloudRequests(options);
  return {
    async sendPublicKey(send, signal) {
      const request = { method: 'POST', path: `/v1/provisioning/${send.deviceId}`, body: bodyOf(send) } as const;
      return (await ask(request, signal)).answer;
    },
  };
}

/** As particle-cli sends it (`order` tells the cloud that a hand did it, and when). */
function bodyOf({ deviceId, publicKeyPem, productId, orderMs }: PublicKeySend): Record<string, string> {
  return {
    deviceID: deviceId,
    publicKey: publicKeyPem,
    algorithm: 'rsa',
    filename: `${deviceId}.pub.pem`,
    order: `manual_${orderMs}`,
    ...(productId === null ? {} : { product_id: productId }),
  };
}
