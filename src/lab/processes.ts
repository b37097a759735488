/**
 * The processes of a lab: found by what they were started with, wherever migrations have taken them, and ended. Nothing
 * but a process that holds a file of the lab in its arguments is ever signalled.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { HostevacError } from '../domain/errors.ts';
import { isAlive, type ProcessId, waitUntilGone } from '../hypervisors/qemu/process.ts';
import { startTicksOf } from '../runtime/process-identity.ts';

/** QEMU ends at once when it is asked; a stopped one or one that hangs is killed. */
const TERM_MS = 3_000;
const KILL_MS = 5_000;

/** Every QEMU that was started with a file under `place`. */
export function qemusOf(place: string): ProcessId[] {
  return processesWith(place, (program) => basename(program).startsWith('qemu-system'));
}

/** Those with a file under `place` in their arguments that are also what is asked for. */
export function processesWith(
  place: string,
  isOne: (program: string, args: readonly string[]) => boolean,
): ProcessId[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name): ProcessId[] => {
      const pid = Number(name);
      const startTicks = startTicksOf(pid);
      const [program = '', ...args] = argumentsOf(pid);
      const ours = args.some((text) => text.includes(`${place}/`)) && isOne(program, args);
      return ours && startTicks !== undefined ? [{ pid, startTicks }] : [];
    });
}

function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    // It has ended since it was listed, or is not ours to see.
    return [];
  }
}

/** SIGTERM, on which QEMU ends in order whoever holds its monitors, then SIGKILL. Throws `labUnfit` for what stays. */
export async function endProcesses(processes: readonly ProcessId[], termMs = TERM_MS): Promise<void> {
  const outcomes = await Promise.all(
    processes.map(async (process) => {
      signal(process, 'SIGTERM');
      if (await waitUntilGone(process, termMs)) return null;
      signal(process, 'SIGKILL');
      return (await waitUntilGone(process, KILL_MS)) ? null : process.pid;
    }),
  );
  const left = outcomes.filter((pid) => pid !== null);
  if (left.length > 0) {
    throw new HostevacError(
      'labUnfit',
      `cannot end process ${left.join(', ')}; end it by hand, then: hostevac lab down`,
    );
  }
}

/** In the same tick as the check, so that the pid cannot have become another's. */
function signal(target: ProcessId, name: NodeJS.Signals): void {
  if (!isAlive(target)) return;
  try {
    process.kill(target.pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
