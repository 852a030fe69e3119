import { Fault } from '#src/core/errors.ts';
import { parseJob, type Job } from '#src/job/job.ts';
import type { ServerSettings } from '#src/job/server-change.ts';

export const KEEP: ServerSettings = { key: 'keep', host: null, port: null };

const REKEY = ['identify', 'preflight', 'backup', 'new-key', 'write', 'verify', 'send', 'leave'] as const;

export function jobText(steps: readonly string[], head = 'name: x\ndescription: y\n'): string {
  return `${head}steps:\n${steps.map(step => `  - ${step}\n`).join('')}`;
}

/** The job `rekey` with some of its steps written otherwise; null leaves one out. `write` stands in line 8. */
export function rekeyText(otherwise: Partial<Record<(typeof REKEY)[number], string | null>> = {}): string {
  return jobText(REKEY.flatMap(step => (otherwise[step] === null ? [] : [otherwise[step] ?? step])));
}

export function readJob(text: string, server = KEEP): Job {
  return parseJob(text, '/jobs/x.yaml', server);
}

/** What a job file is refused with; it is a mistake of the test if it is taken. */
export function refusalOf(text: string, server = KEEP): string {
  try {
    readJob(text, server);
  } catch (thrown) {
    if (thrown instanceof Fault && thrown.code === 'JOB_INVALID') return thrown.message;
    throw thrown;
  }
  throw new Error('the job was taken');
}
