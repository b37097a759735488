/** The guard's own log file: nobody may be there to listen. Bounded: when it is full it becomes `guard.log.1`. */
import { appendFileSync, renameSync, statSync } from 'node:fs';

const MAX_BYTES = 256 * 1024;

export type Log = (line: string) => void;

export function fileLog(path: string): Log {
  let failed = false;
  return (line) => {
    try {
      if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > MAX_BYTES) renameSync(path, `${path}.1`);
      appendFileSync(path, `${new Date().toISOString()} ${process.pid} ${line}\n`, { mode: 0o600 });
      failed = false;
    } catch (error) {
      // Restoring goes before telling. Whoever started the guard may still read this.
      if (!failed) process.stderr.write(`${path}: ${String(error)}; ${line}\n`);
      failed = true;
    }
  };
}
