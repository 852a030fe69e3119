import { describe, expect, test } from 'vitest';
import { Fault } from '#src/core/errors.ts';
import { withProof } from '#src/job/add-prove.ts';
import { jobText, KEEP, readJob, refusalOf, rekeyText } from '../support/job-text.ts';

describe('the step `prove`', () => {
  test('may stand in a job between send and leave', () => {
    const job = readJob(rekeyText({ send: 'send\n  - prove' }));
    expect(job.steps.map(({ name }) => name).slice(-3)).toEqual(['send', 'prove', 'leave']);
    expect(withProof(job)).toBe(job);
  });

  test('needs a new key and its send, and stands behind them', () => {
    expect(refusalOf(jobText(['identify', 'prove']))).toMatchInlineSnapshot(
      `"/jobs/x.yaml:5:5: step \`prove\` needs the step \`new-key\` (and 1 more: /jobs/x.yaml:5:5: step \`prove\` needs the step \`send\`)"`,
    );
    expect(refusalOf(rekeyText({ send: 'prove\n  - send' }))).toMatchInlineSnapshot(
      `"/jobs/x.yaml:11:5: step \`send\` must stand before \`prove\`"`,
    );
    expect(refusalOf(rekeyText({ send: 'send\n  - prove: { fast: true }' }))).toMatch('option `fast`: unknown option');
  });

  test('comes behind send where it is asked for, whatever follows', () => {
    const names = (text: string) => withProof(readJob(text)).steps.map(({ name }) => name);
    expect(names(rekeyText()).slice(-3)).toEqual(['send', 'prove', 'leave']);
    expect(names(rekeyText({ leave: null })).slice(-2)).toEqual(['send', 'prove']);
  });

  test('can not be asked for where there is no new key, or it is not sent', () => {
    const server = { ...KEEP, port: 5683 };
    const steps = ['identify', 'preflight', 'backup', 'write: { server-key: config }', 'verify'];
    const ask = (): unknown => withProof(readJob(jobText(steps), server));
    expect(ask).toThrow(Fault);
    expect(ask).toThrow('--prove: the job x has no step `new-key` and `send`, so there is no new key to prove');
  });
});
