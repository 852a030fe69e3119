import { createCloudClient } from './client.ts';
import type { CloudClientOptions } from './client.ts';
import { httpExchange } from './exchange.ts';
import { networkReason } from './reason.ts';

export type ProbeAnswer =
  | { readonly kind: 'accepted' }
  | { readonly kind: 'unauthorized' }
  | { readonly kind: 'unknown'; readonly reason: string };

const NOBODY = '000000000000000000000000';

/**
 * One harmless question, for `doctor` alone: a device that is nobody's. 401 says that the token is bad; any other clear
 * answer that it is good.
 * @throws Fault CLOUD_INSECURE
 */
export async function probeCloud(options: CloudClientOptions): Promise<ProbeAnswer> {
  createCloudClient(options); // the same checks of URL and token as before a send
  const token = options.token.reveal();
  try {
    const { status } = await httpExchange()({
      method: 'GET',
      url: `${options.url}/v1/devices/${NOBODY}`,
      headers: { authorization: `Bearer ${token}` },
      body: null,
      timeoutMs: options.timeoutMs,
    });
    if (status === 401) return { kind: 'unauthorized' };
    const clear = (status >= 200 && status < 300) || status === 403 || status === 404;
    return clear ? { kind: 'accepted' } : { kind: 'unknown', reason: `it answers ${status}` };
  } catch (error) {
    return { kind: 'unknown', reason: networkReason(error, [token]) };
  }
}
