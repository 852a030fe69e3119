import { Fault } from '../core/errors.ts';
import type { Job } from './job.ts';

/**
 * The job with a step `prove` after its `send`, if it has none (`run --prove`).
 * @throws Fault USAGE where it makes no key, or sends none
 */
export function withProof(job: Job): Job {
  const { steps } = job;
  if (steps.some(({ name }) => name === 'prove')) return job;
  const missing = (['new-key', 'send'] as const).filter(needed => !steps.some(({ name }) => name === needed));
  if (missing.length > 0) {
    const what = missing.map(name => `\`${name}\``).join(' and ');
    throw new Fault('USAGE', `--prove: the job ${job.name} has no step ${what}, so there is no new key to prove`, {
      hint: 'leave --prove out, or name a job that gives a new key and sends it, such as rekey',
    });
  }
  const at = steps.findIndex(({ name }) => name === 'send') + 1;
  return { ...job, steps: [...steps.slice(0, at), { name: 'prove', options: {} }, ...steps.slice(at)] };
}
