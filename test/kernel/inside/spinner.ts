/**
 * A process whose worker threads do nothing but use CPU, each a vCPU to the kernel. Run as a program it spins in as many
 * threads as its argument says and prints their ids; imported, it starts such a process and measures it. It is stopped
 * but for its measurements: the emulated machine is slow enough.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

const HERE = fileURLToPath(import.meta.url);

export interface Spinner {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly tids: readonly number[];
}

export async function startSpinner(threads: number): Promise<Spinner> {
  const child = spawn(process.execPath, [HERE, String(threads)], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.pid === undefined || child.stdout === null) throw new Error('the spinner did not start');
  const [line] = await once(createInterface(child.stdout), 'line');
  child.kill('SIGSTOP');
  return { child, pid: child.pid, tids: String(line).split(' ').map(Number) };
}

export async function stopSpinner(spinner: Spinner): Promise<void> {
  spinner.child.kill('SIGKILL');
  await once(spinner.child, 'exit');
}

/** The group of each thread, as the kernel tells it. */
export function groupsOf({ pid, tids }: Spinner): string[] {
  return tids.map((tid) => readFileSync(`/proc/${pid}/task/${tid}/cgroup`, 'utf8').trim());
}

/** CPU time that a thread has got, ms: the first number of schedstat, ns (Documentation/scheduler/sched-stats.rst). */
function cpuMs(pid: number, tid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
}

/** The part of a core that each thread gets while `forMs` go by. */
export async function sharesOf(spinner: Spinner, forMs: number): Promise<number[]> {
  spinner.child.kill('SIGCONT');
  const begin = performance.now();
  const before = spinner.tids.map((tid) => cpuMs(spinner.pid, tid));
  await sleep(forMs);
  const after = spinner.tids.map((tid) => cpuMs(spinner.pid, tid));
  const elapsed = performance.now() - begin;
  spinner.child.kill('SIGSTOP');
  return after.map((ms, index) => (ms - (before[index] ?? 0)) / elapsed);
}

function spin(): never {
  parentPort?.postMessage(Number(readlinkSync('/proc/thread-self').split('/').at(-1)));
  for (;;);
}

async function spinInThreads(threads: number): Promise<void> {
  const tids: unknown[] = [];
  for (let index = 0; index < threads; index += 1) {
    const [tid] = await once(new Worker(HERE), 'message');
    tids.push(tid);
  }
  console.log(tids.join(' '));
}

if (!isMainThread) spin();
else if (process.argv[1] === HERE) await spinInThreads(Number(process.argv[2]));
