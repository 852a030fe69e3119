import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { jobFileOf, loadJob } from '#src/job/job.ts';
import { makeRsa } from '#src/sim/photon-rsa.ts';
import { jobText, KEEP, readJob, refusalOf, rekeyText } from '../support/job-text.ts';

const JOBS = new URL('../../jobs', import.meta.url).pathname;

describe('a job that comes with the program', () => {
  test('rekey gives a new key, keeps the server, sends and leaves', () => {
    const job = loadJob('rekey', JOBS, KEEP);
    expect(job.name).toBe('rekey');
    expect(job.steps.map(({ name }) => name)).toEqual([
      'identify',
      'preflight',
      'backup',
      'new-key',
      'write',
      'verify',
      'send',
      'leave',
    ]);
    expect(job.plan).toEqual({ newKey: true, server: KEEP, writes: true, sends: true, leaves: true });
  });

  test('backup writes nothing, sends nothing and does not leave', () => {
    const { plan, steps } = loadJob('backup', JOBS, KEEP);
    expect(steps.map(({ name }) => name)).toEqual(['identify', 'preflight', 'backup']);
    expect(plan).toEqual({ newKey: false, server: KEEP, writes: false, sends: false, leaves: false });
  });

  test('server-key writes what is configured, and no device key', () => {
    const { plan } = loadJob('server-key', JOBS, { key: 'builtin', host: null, port: 5684 });
    const server = { key: 'builtin', host: null, port: 5684 };
    expect(plan).toEqual({ newKey: false, server, writes: true, sends: false, leaves: true });
  });

  test('server-key is refused where no server is configured', () => {
    expect(() => loadJob('server-key', JOBS, KEEP)).toThrow(
      expect.objectContaining({
        code: 'CONFIG_INVALID',
        message: 'the job writes the configured server, and none is configured',
      }),
    );
  });
});

describe('a job of the user', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'job-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test('is named by its path, and one that comes with the program by a word', () => {
    expect(jobFileOf('rekey', '/jobs')).toBe('/jobs/rekey.yaml');
    for (const path of ['./rekey', 'my/job.yaml', '../x', 'job.yaml', '/etc/passwd', 'Rekey']) {
      expect(jobFileOf(path, '/jobs')).toBe(path);
    }
  });

  test('that is not there is not found, and neither is a folder', () => {
    for (const [name, code] of [
      ['nothing', 'ENOENT'],
      [`${folder}/x.yaml`, 'ENOENT'],
      [folder, 'EISDIR'],
    ]) {
      expect(() => loadJob(name!, folder, KEEP)).toThrow(
        expect.objectContaining({ code: 'JOB_NOT_FOUND', message: `the job ${name} can't be read (${code})` }),
      );
    }
  });

  test('takes the server key from beside its file, and the configured one from where it is', async () => {
    const { publicKey } = await makeRsa(2048);
    writeFileSync(join(folder, 'server.der'), publicKey);
    writeFileSync(join(folder, 'mine.yaml'), rekeyText({ write: 'write: { server-key: server.der }' }));
    expect(loadJob(join(folder, 'mine.yaml'), JOBS, KEEP).plan.server.key).toEqual(publicKey);
    writeFileSync(join(folder, 'configured.yaml'), rekeyText({ write: 'write: { server-key: config }' }));
    const configured = { key: join(folder, 'server.der'), host: 'cloud.example', port: null };
    expect(loadJob(join(folder, 'configured.yaml'), JOBS, configured).plan.server).toEqual({
      key: publicKey,
      host: 'cloud.example',
      port: null,
    });
  });

  test('with a server key that is not there, or is none, is refused', () => {
    writeFileSync(join(folder, 'mine.yaml'), rekeyText({ write: 'write: { server-key: server.pem }' }));
    const load = () => loadJob(join(folder, 'mine.yaml'), JOBS, KEEP);
    expect(load).toThrow(
      expect.objectContaining({ code: 'SERVER_KEY_INVALID', message: expect.stringContaining('(ENOENT)') as string }),
    );
    writeFileSync(join(folder, 'server.pem'), 'hello');
    expect(load).toThrow(expect.objectContaining({ message: `${folder}/server.pem: no public key in it` }));
  });
});

describe('the options of `write`', () => {
  const serverOf = (write: string, server = KEEP) => readJob(rekeyText({ write }), server).plan.server;

  test('say what becomes of the server, and without them it is kept', () => {
    expect(serverOf('write')).toEqual(KEEP);
    expect(serverOf('write:')).toEqual(KEEP);
    expect(serverOf('write: {}')).toEqual(KEEP);
    expect(serverOf('write: { server-key: builtin }')).toEqual({ key: 'builtin', host: null, port: null });
    expect(serverOf('write: { server-host: 10.0.0.7, server-port: 5683 }')).toEqual({
      key: 'keep',
      host: '10.0.0.7',
      port: 5683,
    });
  });

  test('stand before the configuration, which is asked for what they leave open', () => {
    const configured = { key: 'builtin', host: 'configured.example', port: 5000 };
    expect(serverOf('write: { server-key: config, server-port: 5683 }', configured)).toEqual({
      ...configured,
      port: 5683,
    });
    expect(serverOf('write: { server-host: other.example }', configured)).toEqual({
      key: 'keep',
      host: 'other.example',
      port: null,
    });
  });

  test('take a host as it goes onto the device: in lower case, without blanks round it', () => {
    expect(serverOf(`write: { server-host: " Cloud.EXAMPLE " }`).host).toBe('cloud.example');
    expect(serverOf(`write: { server-host: " 10.0.0.7" }`).host).toBe('10.0.0.7');
  });

  test('have to give a step `write` something to write', () => {
    const steps = ['identify', 'preflight', 'backup', 'write', 'verify'];
    expect(refusalOf(jobText(steps))).toMatchInlineSnapshot(
      `"/jobs/x.yaml:7:5: \`write\` has nothing to write: no new-key step, no claim-code step, and server-key is \`keep\`"`,
    );
    expect(readJob(jobText(steps.with(3, 'write: { server-port: 1 }'))).plan.newKey).toBe(false);
  });
});
