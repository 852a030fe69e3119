import { isClaimCode } from '../core/cloud-calls.ts';
import type { ClaimAnswer, NewCall } from '../core/cloud-calls.ts';
import { Secret } from '../core/secret.ts';
import type { CloudAnswer } from './answer.ts';
import { cloudRequests } from './ask.ts';
import type { CloudClientOptions, CloudRequest } from './ask.ts';

/** The requests of first provisioning. None of its functions throws: what goes wrong on the way is part of the answer. */
export interface CallClient {
  /** `POST /v1/device_claims`, or that of a product. */
  claimCode(productId: string | null, signal?: AbortSignal): Promise<ClaimAnswer>;
  /**
   * `POST /v1/products/{p}/devices` or `PUT /v1/devices/{id}`. A name that is answered with 403 or 404 is `unknown`, and not
   * refused: a device is claimed when it first connects, and before that it is nobody's to name. `GET /v1/devices/{id}` is
   * accepted once its `last_handshake_at` is later than the cloud's acceptance of its key.
   */
  call(call: NewCall & { readonly keyAcceptedAt: number | null }, signal?: AbortSignal): Promise<CloudAnswer>;
}

/** @throws Fault CLOUD_INSECURE, CONFIG_INVALID */
export function createCallClient(options: CloudClientOptions): CallClient {
  const ask = cloudRequests(options);
  return {
    async claimCode(productId, signal) {
      const path = productId === null ? '/v1/device_claims' : `${productPath(productId)}/device_claims`;
      const { answer, body } = await ask({ method: 'POST', path, body: {} }, signal);
      switch (answer.kind) {
        case 'accepted': {
          if (body === null) return { kind: 'unavailable', status: answer.status, reason: 'its answer broke off' };
          const code = memberOf(body, 'claim_code');
          return typeof code === 'string' && isClaimCode(code)
            ? { kind: 'code', code: new Secret(code) }
            : { kind: 'invalid', status: answer.status };
        }
        case 'refused':
        case 'unauthorized':
          return answer;
        case 'unknown':
          return { kind: 'unavailable', status: answer.status, reason: answer.reason };
      }
    },
    async call(call, signal) {
      const { answer, body } = await ask(requestOf(call), signal);
      if (call.kind === 'name') return untilClaimed(answer);
      if (call.kind === 'confirm-online') return untilConnected(untilClaimed(answer), body, call.keyAcceptedAt);
      const invalid = answer.kind === 'accepted' ? memberOf(body, 'invalidDeviceIds') : undefined;
      if (answer.kind !== 'accepted' || !Array.isArray(invalid) || !invalid.includes(call.deviceId)) return answer;
      return {
        kind: 'refused',
        status: answer.status,
        reason: 'the product does not take this device (invalidDeviceIds)',
      };
    },
  };
}

function requestOf({ kind, deviceId, productId, payload }: NewCall): CloudRequest {
  const body = JSON.parse(payload) as Record<string, unknown>;
  switch (kind) {
    case 'confirm-online':
      return { method: 'GET', path: `/v1/devices/${deviceId}`, body: null };
    case 'add-to-product':
      return { method: 'POST', path: `${productPath(productId ?? '')}/devices`, body };
    case 'name':
      return { method: 'PUT', path: `/v1/devices/${deviceId}`, body };
  }
}

function productPath(productId: string): string {
  return `/v1/products/${encodeURIComponent(productId)}`;
}

/** By the cloud's clock and this one's: a handshake of the last seconds may be missed, and the next one tells. */
function untilConnected(answer: CloudAnswer, body: string | null, keyAcceptedAt: number | null): CloudAnswer {
  if (answer.kind !== 'accepted') return answer;
  const last = memberOf(body, 'last_handshake_at');
  const at = typeof last === 'string' ? Date.parse(last) : NaN;
  if (keyAcceptedAt !== null && at > keyAcceptedAt) return answer;
  const { status } = answer;
  const reason = 'it has not connected since its key was accepted';
  return { kind: 'unknown', status, reason, retryAfterMs: null, mayLandLate: false };
}

function untilClaimed(answer: CloudAnswer): CloudAnswer {
  if (answer.kind !== 'refused' || (answer.status !== 403 && answer.status !== 404)) return answer;
  const { status, reason } = answer;
  return { kind: 'unknown', status, reason: `not claimed yet: ${reason}`, retryAfterMs: null, mayLandLate: false };
}

/** A member of a JSON body; undefined where there is none, or the body is something else. */
function memberOf(body: string | null, name: string): unknown {
  let data: unknown;
  try {
    data = JSON.parse(body ?? '');
  } catch {
    return undefined;
  }
  return typeof data === 'object' && data !== null && Object.hasOwn(data, name)
    ? (data as Record<string, unknown>)[name]
    : undefined;
}
