import { parentPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { armFailPoint } from '../core/fail-points.ts';
import type { Connected, Service } from '../core/threads.ts';
import { loadSqlite, serveRecord } from '../store/serve-record.ts';
import { serveSealing } from '../vault/serve-sealing.ts';

/*
 * The thread beside the event loop, for what would hold up every device: SQLite, which waits for the disk, and sealing, a
 * millisecond for each item. Each is asked over a port of its own.
 */

const SERVICES: Readonly<Record<Service, (port: MessagePort) => void>> = {
  // Its owner is gone with the record, and with it all that there may be to seal.
  record: port => serveRecord(port, () => parentPort?.close()),
  sealing: serveSealing,
};

armFailPoint(process.env);
parentPort?.on('message', ({ service, port }: Connected) => SERVICES[service](port));
loadSqlite();
