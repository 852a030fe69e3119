import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { Fault } from '../core/errors.ts';
import { Secret } from '../core/secret.ts';
import type { Config, Environment } from './config.ts';
import { systemCode } from '../core/system-code.ts';

export const TOKEN_VARIABLE = 'PARTICLE_ACCESS_TOKEN';
const MAX_BYTES = 8192;

/**
 * The access token: from PARTICLE_ACCESS_TOKEN, else from the file that `cloud.tokenFile` names; never from a flag,
 * where every user of the machine could read it. No message repeats it, nor the file's path, since somebody may have
 * put the token itself there.
 * @param warn is told when others can read the file
 * @returns null where neither is set
 * @throws Fault CONFIG_INVALID (empty, or no token) or CONFIG_UNREADABLE (the file), naming the source
 */
export function readToken(
  config: Config,
  env: Environment,
  warn: (message: string) => void = () => undefined,
): Secret<string> | null {
  const given = env[TOKEN_VARIABLE];
  if (given !== undefined) return checked(given, TOKEN_VARIABLE);
  const path = config.values.cloud.tokenFile;
  if (path === null) return null;
  const source = `the file of \`cloud.tokenFile\` (${config.describeSource('cloud.tokenFile')})`;
  return checked(readTokenFile(path, source, warn), source);
}

function readTokenFile(path: string, source: string, warn: (message: string) => void): string {
  try {
    // Without blocking, or a named pipe that nobody writes to would hold us here for ever.
    const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(file);
      if (!stat.isFile()) throw unreadable(source, 'it is no regular file');
      if (stat.size > MAX_BYTES) throw new Fault('CONFIG_INVALID', `${source} holds no token: it is too long`);
      const mode = stat.mode & 0o777;
      if ((mode & 0o077) !== 0) {
        warn(`${source} can be read or changed by other users (mode 0${mode.toString(8)}): chmod 600 it`);
      }
      return readFileSync(file, 'utf8');
    } finally {
      closeSync(file);
    }
  } catch (thrown) {
    if (thrown instanceof Fault) throw thrown;
    // Without the cause: its message has the path.
    const code = systemCode(thrown);
    throw unreadable(source, code === 'ENOENT' ? 'there is no such file' : code);
  }
}

function unreadable(source: string, why: string): Fault {
  return new Fault('CONFIG_UNREADABLE', `${source} can't be read: ${why}`);
}

/** A bearer token is visible ASCII (RFC 6750, 2.1); anything else is a slip of the hand, and no header takes it. */
function checked(text: string, source: string): Secret<string> {
  const token = text.replace(/^\ufeff/, '').trim();
  if (token === '') throw new Fault('CONFIG_INVALID', `${source} is empty: it should hold the access token`);
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new Fault(
      'CONFIG_INVALID',
      `${source} holds no token: there are blanks or characters in it that no token has`,
    );
  }
  if (token.length > MAX_BYTES) throw new Fault('CONFIG_INVALID', `${source} holds no token: it is too long`);
  return new Secret(token);
}
