/**
 * A migration seen from outside, the same way whoever drives it: the CPU time of the vCPU threads at both ends every 10 ms,
 * QEMU's counters and events over a monitor of the observer's own, and how much CPU others on this machine used.
 */
import { readFileSync, statSync } from 'node:fs';
import { z } from 'zod';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import { cpusAnswer, migrateAnswer } from '../../src/hypervisors/qemu/answers.ts';
import { errorCode } from '../../src/hypervisors/qemu/durable-file.ts';
import { processOfThread } from '../../src/hypervisors/qemu/process.ts';
import { connectQmp } from '../../src/hypervisors/qemu/qmp/client.ts';
import type { Qmp } from '../../src/hypervisors/qemu/qmp/qmp.ts';
import { readState } from '../../src/lab/guest/inspect.ts';
import { PAGE_BYTES } from '../../src/lab/guest/layout.ts';
import { cpuTimes, othersCores } from '../lab/quiet.ts';
import type { CpuSample, TickSample } from './measures.ts';

const CPU_EVERY_MS = 10;
const LOOK_EVERY_MS = 100;
const SOCKET = 'observer.sock';

/**
 * A guest's further arguments. Both ends are started with the same ones: the destination takes the socket's name over, and
 * whoever is connected to the source stays so.
 */
export function observerArguments(place: string): string[] {
  const path = `${place}/${SOCKET}`.replaceAll(',', ',,');
  return ['-chardev', `socket,id=observer,path=${path},server=on,wait=off`, '-mon', 'chardev=observer,mode=control'];
}

const countersAnswer = migrateAnswer.extend({ 'cpu-throttle-percentage': z.number().optional() });

/** QEMU's counters at a moment of the migration. */
export interface Counters {
  readonly atMs: number;
  readonly status: string;
  readonly pass: number;
  readonly remainingBytes: number;
  readonly transferredBytes: number;
  /** QEMU's own; null until it says. */
  readonly totalMs: number | null;
  readonly downtimeMs: number | null;
}

interface End {
  readonly qmp: Qmp;
  readonly pid: number;
  readonly tids: readonly number[];
}

export class Observer {
  readonly cpu: CpuSample[] = [];
  readonly ticks: TickSample[] = [];
  readonly counters: Counters[] = [];
  /** What QEMU said of the migration, in order; times as they arrived. */
  readonly statuses: { readonly atMs: number; readonly status: string }[] = [];
  /** Core-ms that others used, and over how long that was seen. */
  othersMs = 0;
  othersSeenMs = 0;
  readonly #socket: string;
  readonly #follow: boolean;
  #source: End;
  #destination: End | null = null;
  #inode: number;
  readonly #got = new Map<number, { readonly first: number; readonly last: number }>();
  readonly #over = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #neighbours: { readonly pids: string; readonly times: ReturnType<typeof cpuTimes> } | null = null;

  private constructor(socket: string, source: End, follow: boolean) {
    this.#socket = socket;
    this.#source = source;
    this.#follow = follow;
    this.#inode = inodeOf(socket);
  }

  /** Of the only guest in `place`, which must have been started with `observerArguments`. `follow`: its ticks, too. */
  static async open(place: string, follow: boolean): Promise<Observer> {
    const socket = `${place}/${SOCKET}`;
    const observer = new Observer(socket, await endAt(socket), follow);
    observer.#source.qmp.onEvent(({ name, data }) => {
      const status = data['status'];
      if (name === 'MIGRATION' && typeof status === 'string') observer.#hear(status);
    });
    observer.#timer = setInterval(() => observer.#sample(), CPU_EVERY_MS);
    observer.#looking = observer.#look();
    return observer;
  }

  /** When `migrate` took effect and when it was over (however); null: not yet. */
  get startedAtMs(): number | null {
    return this.statuses.find(({ status }) => status === 'setup')?.atMs ?? null;
  }

  get endedAtMs(): number | null {
    return this.statuses.find(({ status }) => ENDED.has(status))?.atMs ?? null;
  }

  get completed(): boolean {
    return this.statuses.some(({ status }) => status === 'completed');
  }

  /** Until the guest has taken so many ticks. */
  async untilTick(ticks: number, signal: AbortSignal): Promise<void> {
    while ((await readState(this.#source.qmp)).ticks < ticks) {
      await abortableSleep(CPU_EVERY_MS, signal);
      signal.throwIfAborted();
    }
  }

  /** What the guest has written since its boot, every write counted, and when that was so. */
  async written(): Promise<{ readonly atMs: number; readonly bytes: number }> {
    const { progress } = await readState(this.#source.qmp);
    return { atMs: performance.now(), bytes: progress * PAGE_BYTES };
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#over.abort();
    await this.#looking;
    this.#source.qmp.close();
    this.#destination?.qmp.close();
  }

  #hear(status: string): void {
    this.statuses.push({ atMs: performance.now(), status });
    // At once: its driver may end that process as soon as it has seen the same.
    if (ENDED.has(status)) void this.#count().catch(ignoreGone);
  }

  #sample(): void {
    const read = ({ pid, tids }: End): number[] =>
      tids.map((tid) => {
        const got = cpuMsOf(pid, tid);
        // What a thread had used when it was first seen is not the guest's: a destination's wait and are set up.
        const known = this.#got.get(tid) ?? { first: got ?? 0, last: got ?? 0 };
        this.#got.set(tid, { ...known, last: got ?? known.last });
        return (got ?? known.last) - known.first;
      });
    const here = read(this.#source);
    const there = this.#destination === null ? [] : read(this.#destination);
    this.cpu.push({
      atMs: performance.now(),
      gotMs: here.map((got, vcpu) => got + (there[vcpu] ?? 0)),
      thereMs: there.reduce((sum, got) => sum + got, 0),
    });
  }

  async #look(): Promise<void> {
    while (!this.#over.signal.aborted) {
      try {
        await this.#findDestination();
        if (this.startedAtMs !== null && this.endedAtMs === null) await this.#count();
        if (this.#follow) await this.#countTicks();
      } catch (error) {
        ignoreGone(error);
      }
      this.#countNeighbours();
      await abortableSleep(LOOK_EVERY_MS, this.#over.signal);
    }
  }

  async #findDestination(): Promise<void> {
    if (this.#destination !== null) return;
    const inode = inodeOf(this.#socket);
    if (inode === this.#inode || inode === 0) return;
    const end = await endAt(this.#socket);
    // A copy that was given up is followed by another.
    this.#inode = inode;
    end.qmp.onClose(() => {
      if (this.#destination === end && this.endedAtMs === null) this.#destination = null;
    });
    this.#destination = end;
  }

  async #count(): Promise<void> {
    const answer = await this.#source.qmp.execute('query-migrate', countersAnswer);
    const { ram, status, downtime } = answer;
    if (ram === undefined || status === undefined) return;
    this.counters.push({
      atMs: performance.now(),
      status,
      pass: ram['dirty-sync-count'],
      remainingBytes: ram.remaining,
      transferredBytes: ram.transferred,
      totalMs: answer['total-time'] ?? null,
      downtimeMs: downtime ?? null,
    });
  }

  async #countTicks(): Promise<void> {
    const there = this.#destination !== null && this.completed;
    const { qmp } = there && this.#destination !== null ? this.#destination : this.#source;
    const { ticks } = await readState(qmp);
    this.ticks.push({ atMs: performance.now(), ticks });
  }

  #countNeighbours(): void {
    const pids = [this.#source, this.#destination].flatMap((end) => (end === null ? [] : [end.pid]));
    const before = this.#neighbours;
    this.#neighbours = null;
    try {
      const times = cpuTimes(pids);
      this.#neighbours = { pids: pids.join(), times };
      if (before?.pids !== pids.join()) return;
      const elapsedMs = times.atMs - before.times.atMs;
      this.othersMs += othersCores(before.times, times) * elapsedMs;
      this.othersSeenMs += elapsedMs;
    } catch (error) {
      // One of them has ended: this look is left out.
      if (errorCode(error) !== 'ENOENT' && errorCode(error) !== 'ESRCH') throw error;
    }
  }
}

const ENDED: ReadonlySet<string> = new Set(['completed', 'failed', 'cancelled']);

async function endAt(socket: string): Promise<End> {
  const qmp = await connectQmp(socket);
  const tids = (await qmp.execute('query-cpus-fast', cpusAnswer)).map((cpu) => cpu['thread-id']);
  const pid = tids[0] === undefined ? undefined : processOfThread(tids[0])?.pid;
  if (pid === undefined) throw new HostevacError('hostUnreachable', `${socket}: its vCPUs are not to be seen`);
  return { qmp, pid, tids };
}

/** undefined: it has ended. */
function cpuMsOf(pid: number, tid: number): number | undefined {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ESRCH') return undefined;
    throw error;
  }
}

/** 0: there is none. */
function inodeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.ino ?? 0;
}

/** An end that has gone: its last figures stand. */
function ignoreGone(error: unknown): void {
  if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
}
