/**
 * Which process is the guard: it writes that down beside its lock before it does anything else, so that a client can end
 * one that hangs. And how to tell one that hangs from one that is only slow.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { parseProcessStat, thisProcess } from '../../runtime/process-identity.ts';
import { errnoOf } from '../cgroup/files.ts';
import type { GuardPlaces } from './places.ts';
import { parseJson } from './protocol.ts';

const identitySchema = z.object({
  machine: z.string(),
  pid: z.number().int().positive(),
  startTicks: z.number().int().nonnegative(),
});
export type GuardIdentity = z.infer<typeof identitySchema>;

/**
 * An answer takes milliseconds, and the guard runs with the highest priority. One that sleeps or is stopped although a
 * request has waited for a second hangs. One that computes, waits for a CPU, or for its disk (the journal's fsync) may
 * only be slow: ending it would help nobody, its successor writes to the same disk. Silence is counted in beats of the
 * client's own, so that time in which the client, or the whole machine, did not run is none of the guard's.
 */
const HUNG_MS = 1_000;
const SLOW_MS = 5_000;
const IDLE_STATES = ['S', 'T', 't'];

/** Throws what the file system says. Not flushed: after a crash of the machine nobody has this identity. */
export function writeIdentity({ identity }: GuardPlaces): void {
  const { machine, pid, startTicks } = thisProcess();
  const temporary = `${identity}.new`;
  writeFileSync(temporary, `${JSON.stringify({ machine, pid, startTicks })}\n`, { mode: 0o600 });
  renameSync(temporary, identity);
}

/** Of the guard that runs, or of the last one; null: not known. */
export function readIdentity({ identity }: GuardPlaces): GuardIdentity | null {
  try {
    return identitySchema.safeParse(parseJson(readFileSync(identity, 'utf8'))).data ?? null;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** Has it not answered for too long? `silentMs`: counted while the client ran. */
export function isHung(guard: GuardIdentity | null, silentMs: number): boolean {
  if (silentMs < HUNG_MS) return false;
  if (silentMs >= SLOW_MS) return true;
  return guard !== null && guard.machine === thisProcess().machine && IDLE_STATES.includes(stateOf(guard.pid));
}

/** As in proc(5); empty: not to be seen. */
function stateOf(pid: number): string {
  try {
    return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.state ?? '';
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errnoOf(error))) return '';
    throw error;
  }
}
