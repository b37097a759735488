/** Ending a process of this machine for certain: the one that is meant, and gone when it returns. */
import { abortableSleep } from '../clock/abortable-sleep.ts';
import { HostevacError } from '../domain/errors.ts';
import type { LeaseOwner } from '../store/lease.ts';
import { isDeadHere, isOfAnotherBoot, thisProcess } from './process-identity.ts';

const LOOK_AGAIN_MS = 10;
/** SIGKILL is not refused; a process in an uninterruptible call ends when the call does. */
const LIMIT_MS = 5_000;

/**
 * SIGKILL, for the process may be stopped and hear nothing else. True also for one of another boot: whatever ran before
 * this kernel did, or runs under another, reaches no socket of this machine. False: it runs under this kernel where its
 * pid means nothing here (another container). Throws `internal` when it may not be signalled, or is still there after 5 s.
 */
export async function endProcess(owner: Pick<LeaseOwner, 'machine' | 'pid' | 'startTicks'>): Promise<boolean> {
  if (owner.machine !== thisProcess().machine) return isOfAnotherBoot(owner.machine);
  const begun = performance.now();
  while (!isDeadHere(owner)) {
    if (performance.now() - begun > LIMIT_MS) throw stillThere(owner.pid, 'it is still there 5 s after SIGKILL');
    try {
      process.kill(owner.pid, 'SIGKILL');
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) {
        throw stillThere(owner.pid, error instanceof Error ? error.message : String(error));
      }
    }
    await abortableSleep(LOOK_AGAIN_MS);
  }
  return true;
}

function stillThere(pid: number, why: string): HostevacError {
  return new HostevacError('internal', `process ${pid} cannot be ended: ${why}. End it by hand: kill -9 ${pid}`);
}
