/** Reads this machine: its clock's keeper, its control groups, whether the guard can throttle. */
import { accessSync, constants, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { settledWithin } from '../../clock/abortable-sleep.ts';
import { HostevacError } from '../../domain/errors.ts';
import { inPath } from '../../runtime/in-path.ts';
import { isDeadHere } from '../../runtime/process-identity.ts';
import { cpuGroup } from '../../throttling/cgroup/layout.ts';
import { GuardClient } from '../../throttling/guard/client.ts';
import { readIdentity } from '../../throttling/guard/identity.ts';
import { guardPlaces } from '../../throttling/guard/places.ts';
import type { CgroupFacts } from '../judge/machine.ts';
import { runProgram } from './program.ts';

const CLOCK_MS = 3_000;
const GUARD_MS = 15_000;
const ENDING_MS = 3_000;

/** Who keeps the clock, as far as anybody says. */
export async function kernelClock(
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<{ synchronised: boolean | null; by: string | null }> {
  const options = { env, timeoutMs: CLOCK_MS, signal };
  if (inPath('timedatectl', env) !== undefined) {
    const { code, stdout } = await runProgram(
      'timedatectl',
      ['show', '--property=NTPSynchronized', '--value'],
      options,
    );
    if (code === 0 && /^(yes|no)$/m.test(stdout)) return { synchronised: /^yes$/m.test(stdout), by: 'timedatectl' };
  }
  if (inPath('chronyc', env) !== undefined) {
    const { code, stdout } = await runProgram('chronyc', ['-c', 'tracking'], options);
    const leap = stdout.trim().split(',').at(-1);
    if (code === 0 && leap !== undefined && leap !== '') {
      return { synchronised: leap !== 'Not synchronised', by: 'chronyc' };
    }
  }
  return { synchronised: null, by: null };
}

export function lookAtCgroups(): CgroupFacts {
  const uid = process.geteuid?.() ?? 0;
  const group = cpuGroup(readFileSync('/proc/self/cgroup', 'utf8'), readFileSync('/proc/self/mountinfo', 'utf8'));
  if (typeof group === 'string') return { uid, group, writable: false };
  const { version, path } = group;
  return { uid, group: { version, path, cpuThere: hasCpu(version, path) }, writable: mayWrite(path) };
}

function hasCpu(version: 1 | 2, path: string): boolean {
  if (version === 1) return existsSync(join(path, 'cpu.shares'));
  const file = join(path, 'cgroup.controllers');
  return existsSync(file) && readFileSync(file, 'utf8').trim().split(' ').includes('cpu');
}

function mayWrite(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Has the guard of the state directory try, where one runs: its rights count, not ours. Else one of a directory that is removed
 * again: nothing is left either way. null: it can; else its words.
 */
export async function probeGuard(stateDir: string): Promise<string | null> {
  const running = readIdentityIfThere(stateDir);
  if (running !== null && !isDeadHere(running)) return askGuard(stateDir);
  const { service } = guardPlaces(stateDir);
  if (existsSync(service)) {
    return `the guard is run by a service manager here (${service}), and does not run; systemctl start hostevac-guard, or remove that file`;
  }
  const directory = mkdtempSync(join(tmpdir(), 'hostevac-doctor-'));
  try {
    const refusal = await askGuard(directory);
    await endGuard(directory);
    return refusal;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function readIdentityIfThere(stateDir: string) {
  try {
    return readIdentity(guardPlaces(stateDir));
  } catch {
    // Of a directory that may not be read there is a finding of its own.
    return null;
  }
}

async function askGuard(stateDir: string): Promise<string | null> {
  const guard = new GuardClient({ stateDir, log: () => undefined });
  try {
    const answered = await settledWithin(guard.probe([]), GUARD_MS);
    return answered === undefined ? `the guard does not answer within ${GUARD_MS / 1_000}s` : null;
  } catch (error) {
    if (error instanceof HostevacError && error.code === 'throttleUnavailable') return error.message;
    throw error;
  } finally {
    await guard.close();
  }
}

/** The one that was started for this; told to, it ends at once. */
async function endGuard(directory: string): Promise<void> {
  const guard = readIdentityIfThere(directory);
  if (guard === null || isDeadHere(guard)) return;
  process.kill(guard.pid, 'SIGTERM');
  const since = performance.now();
  while (!isDeadHere(guard) && performance.now() - since < ENDING_MS) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
