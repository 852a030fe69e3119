import { openSync } from 'node:fs';
import { pino } from 'pino';
import { Fault } from '../core/errors.ts';
import type { RunObserver } from '../core/events.ts';
import { jsonOf } from './json.ts';
import { systemCode } from '../core/system-code.ts';

/** A log of events, one JSON object a line; never a secret in it, since no event carries one. */
export interface LogFile {
  readonly observer: RunObserver;
  info(message: string): void;
  close(): void;
}

/** Appends to `path`, made 0600. @throws Fault CONFIG_UNREADABLE */
export function openLogFile(path: string, verbose: boolean): LogFile {
  let fd: number;
  try {
    fd = openSync(path, 'a', 0o600);
  } catch (cause) {
    const code = systemCode(cause);
    throw new Fault('CONFIG_UNREADABLE', `the log file ${path} can't be written (${code})`, { cause });
  }
  const destination = pino.destination({ fd, sync: true });
  const logger = pino({ level: verbose ? 'debug' : 'info', base: null }, destination);
  return {
    observer: event => {
      if (event.type === 'step') logger.debug(jsonOf(event));
      else logger.info(jsonOf(event));
    },
    info: message => logger.info({ type: 'talk' }, message),
    close: () => destination.end(),
  };
}
