import { Fault } from './errors.ts';

/**
 * Places at which a test has the process die as in a power cut: without a last word, at one exact moment. They are
 * compiled in, so that what is tested is what is shipped, and do nothing unless PHOTON_FLEET_FAIL_AT names one.
 *
 * - `step:NAME`: before a step; `session:end`: after the last one, before the row is settled
 * - `write:…`: around the one DNLOAD block; `write:block-sent` lies between DNLOAD and the GETSTATUS in which it is written
 * - `flash:…`: with a sector of the firmware erased, and with it written and compared
 * - `leave:…`, `send:…`, `call:…`: before and after what can't be undone
 * - `record:NAME:performed`: inside the transaction; `record:NAME:committed`: after it, before anybody is told
 */
export const FAIL_POINTS = [
  'step:identify',
  'step:firmware',
  'step:preflight',
  'step:backup',
  'step:new-key',
  'step:claim-code',
  'step:write',
  'step:verify',
  'step:send',
  'step:prove',
  'step:add-to-product',
  'step:name',
  'step:confirm-online',
  'step:leave',
  'session:end',
  'write:pointer-set',
  'write:block-sent',
  'write:block-written',
  'flash:erased',
  'flash:sector-written',
  'leave:asked',
  'leave:left',
  'send:leased',
  'send:answered',
  'call:leased',
  'call:answered',
  'record:openRun:performed',
  'record:openRun:committed',
  'record:beginAttempt:performed',
  'record:beginAttempt:committed',
  'record:saveBackup:performed',
  'record:saveBackup:committed',
  'record:addPreparedKeys:performed',
  'record:addPreparedKeys:committed',
  'record:takePreparedKey:performed',
  'record:takePreparedKey:committed',
  'record:prepareWrite:performed',
  'record:prepareWrite:committed',
  'record:markWriting:performed',
  'record:markWriting:committed',
  'record:markVerified:performed',
  'record:markVerified:committed',
  'record:markLeftToOutbox:performed',
  'record:markLeftToOutbox:committed',
  'record:markLeft:performed',
  'record:markLeft:committed',
  'record:markRollingBack:performed',
  'record:markRollingBack:committed',
  'record:markRolledBack:performed',
  'record:markRolledBack:committed',
  'record:abandonWrite:performed',
  'record:abandonWrite:committed',
  'record:noteModules:performed',
  'record:noteModules:committed',
  'record:beginFlash:performed',
  'record:beginFlash:committed',
  'record:endFlash:performed',
  'record:endFlash:committed',
  'record:leaseSend:performed',
  'record:leaseSend:committed',
  'record:recordAccepted:performed',
  'record:recordAccepted:committed',
  'record:recordRefused:performed',
  'record:recordRefused:committed',
  'record:recordProofRefused:performed',
  'record:recordProofRefused:committed',
  'record:recordUnknown:performed',
  'record:recordUnknown:committed',
  'record:queueCall:performed',
  'record:queueCall:committed',
  'record:leaseCall:performed',
  'record:leaseCall:committed',
  'record:recordCallDone:performed',
  'record:recordCallDone:committed',
  'record:settleRow:performed',
  'record:settleRow:committed',
  'record:releaseDevice:performed',
  'record:releaseDevice:committed',
  'record:finishRun:performed',
  'record:finishRun:committed',
  'record:noteWorkingIdentity:performed',
  'record:noteWorkingIdentity:committed',
  'record:noteWorkingIdentityDestroyed:performed',
  'record:noteWorkingIdentityDestroyed:committed',
  'record:beginRewrap:performed',
  'record:beginRewrap:committed',
  'record:resealPage:performed',
  'record:resealPage:committed',
  'record:endRewrap:performed',
  'record:endRewrap:committed',
] as const;
export type FailPoint = (typeof FAIL_POINTS)[number];

export const FAIL_VARIABLE = 'PHOTON_FLEET_FAIL_AT';

let armed: { readonly name: string; left: number } | null = null;

/**
 * Reads PHOTON_FLEET_FAIL_AT: `NAME`, or `NAME@N` for the Nth time that this thread comes by. Each thread arms itself.
 * @throws Fault USAGE where it names no fail point
 */
export function armFailPoint(env: NodeJS.ProcessEnv): void {
  const text = env[FAIL_VARIABLE];
  armed = null;
  if (text === undefined || text === '') return;
  const [, name, nth = '1'] = /^([^@]*)(?:@([1-9]\d{0,5}))?$/.exec(text) ?? [];
  const point = FAIL_POINTS.find(known => known === name);
  if (point === undefined) {
    throw new Fault('USAGE', `${FAIL_VARIABLE} names no fail point: ${JSON.stringify(text.slice(0, 60))}`, {
      hint: `it is for tests of this program; unset it`,
    });
  }
  armed = { name: point, left: Number(nth) };
}

/**
 * Dies here, if that is what was asked for: SIGKILL lets nothing be tidied up. Of the record's operations those that change
 * nothing come by as well, under names that can't be armed.
 */
export function failPoint(name: FailPoint | `record:${string}`): void {
  if (armed?.name !== name) return;
  armed.left -= 1;
  if (armed.left === 0) process.kill(process.pid, 'SIGKILL');
}
