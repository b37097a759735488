/**
 * The throttles in force and what must be put back; the only place that decides to write a quota. No time of its own and
 * no sockets: `now` is given, owners are numbers.
 *
 * A throttle's life: nothing -> journalled -> inForce -> restoring -> nothing. It is restored when it is released, when
 * its time has run out, when the connection that set it ends, and by the next guard when this one has died. `restoring`
 * lasts until everything is as it was: what fails is tried again at every `tick`.
 */
import { HostevacError } from '../../domain/errors.ts';
import { type Cell, holdCell, isSameVm, openCell, ownGroupName, planCells, restoreCell } from '../cgroup/cells.ts';
import type { GroupFiles } from '../cgroup/files.ts';
import type { Allowance } from '../cgroup/quota.ts';
import type { Log } from './guard-log.ts';
import type { JournalContent, TokenRecord } from './journal.ts';
import { type GuardStatus, LONGEST_VALID_MS, type Look, type Released, type SetRequest } from './protocol.ts';
import { Waits } from './waits.ts';

interface Throttle {
  readonly host: string;
  readonly vm: string;
  cells: readonly Cell[];
  state: 'inForce' | 'restoring';
  /** Connection that set it last. */
  owner: number;
  /** When it lifts itself. */
  untilMs: number;
  share: number;
  demandCores: number;
  cores: number;
  /** What each cell may use, by its path. */
  allowances: Map<string, Allowance>;
  /** It has been told that the kernel kept a thread waiting. */
  toldOfWaits: boolean;
  /** Why it could not be restored, the last time; logged once. */
  failure: string;
}

export interface ThrottlesOptions {
  readonly files: GroupFiles;
  /** What is to be kept of throttles and tokens, on disk when it returns. */
  readonly save: (content: Pick<JournalContent, 'throttles' | 'tokens'>) => void;
  readonly log: Log;
  /** Monotonic, ms. */
  readonly now: () => number;
  readonly startTicksOf: (pid: number) => number | undefined;
}

type ProcessId = { readonly pid: number; readonly startTicks: number };
type VmKey = { readonly host: string; readonly vm: string };

const NOBODY = -1;
/** Any will do: nobody runs there. */
const PROBE_STRETCH_MS = 300;
/** Under this the groups of a probe stand in the journal. */
const PROBE = { host: 'hostevac-guard', vm: 'probe' };

export class Throttles {
  readonly #given: ThrottlesOptions;
  readonly #throttles = new Map<string, Throttle>();
  readonly #waits: Waits;
  readonly #tokens = new Map<string, TokenRecord>();
  /** When a VM's throttle last came or went. */
  readonly #changed = new Map<string, number>();
  /** The journal holds more than there is: it could not be written after a restoration. */
  #unsaved = false;

  constructor(given: ThrottlesOptions) {
    this.#given = given;
    this.#waits = new Waits(given.files);
  }

  /** Nothing to restore, now or by the next guard. */
  get idle(): boolean {
    return this.#throttles.size === 0 && !this.#unsaved;
  }

  get holdsNothing(): boolean {
    return this.#throttles.size === 0;
  }

  /** What an earlier guard left: restored now, and again until it is done. */
  recover(content: JournalContent): void {
    for (const record of content.tokens) {
      if (this.#lives(record)) this.#tokens.set(keyOf(record), record);
    }
    for (const { host, vm, cells } of content.throttles) {
      this.#given.log(`${host}/${vm}: restoring what an earlier guard left`);
      this.#throttles.set(keyOf({ host, vm }), {
        host,
        vm,
        cells,
        state: 'restoring',
        ...unheld(),
      });
    }
    this.#unsaved = content.throttles.length > 0;
    this.tick();
  }

  /** Throws `leaseLost`, or `throttleUnavailable`: then nothing is changed. */
  set(owner: number, request: SetRequest, shownBy: ProcessId | undefined): void {
    const { host, vm, process, threads } = request;
    this.#checkToken(request);
    const tids = threads.map(({ tid }) => tid);
    if (!isSameVm(this.#given.files, { ...process, tids }, this.#given.startTicksOf)) {
      throw unavailable(`${host}/${vm}: process ${process.pid} or one of its vCPU threads has ended`);
    }
    const key = keyOf(request);
    let throttle = this.#throttles.get(key);
    // Half restored, or made for other threads (the VM was started again, a vCPU was plugged in): from the beginning.
    if (throttle !== undefined && (throttle.state === 'restoring' || !covers(throttle.cells, tids))) {
      this.#restoreAll([throttle]);
      throttle = this.#throttles.get(key);
      if (throttle !== undefined) {
        throw unavailable(`${host}/${vm}: the throttle before it cannot be lifted: ${throttle.failure}`);
      }
    }
    const isNew = throttle === undefined;
    throttle ??= this.#plan(request, tids);
    this.#throttles.set(key, throttle);
    const known = this.#tokens.get(key);
    const token = { kind: 'token', host, vm, token: request.token, ...process, shownBy } as const;
    this.#tokens.set(key, token);
    try {
      // On disk before the first write. Only what the next guard needs: a new quota is not written down.
      if (isNew || known?.token !== request.token || known.pid !== process.pid) this.#save();
    } catch (error) {
      if (isNew) this.#throttles.delete(key);
      if (known === undefined) this.#tokens.delete(key);
      else this.#tokens.set(key, known);
      throw unavailable(
        `${host}/${vm}: not throttled, because the journal cannot be written (${messageOf(error)})`,
        error,
      );
    }
    try {
      if (isNew) for (const cell of throttle.cells) openCell(this.#given.files, cell);
      this.#hold(throttle, request);
    } catch (error) {
      this.#restoreAll([throttle]);
      throw error;
    }
    throttle.owner = owner;
    throttle.untilMs = this.#given.now() + Math.min(request.validForMs, LONGEST_VALID_MS);
    if (!isNew) return;
    this.#changed.set(key, this.#given.now());
    this.#given.log(`${host}/${vm}: throttled through ${throttle.cells.map(({ path }) => path).join(', ')}`);
  }

  /** Throws `leaseLost`, or `throttleUnavailable` when it cannot be lifted (yet). */
  release(request: VmKey & { token: number; process?: ProcessId | undefined }, shownBy: ProcessId | undefined): void {
    this.#checkToken(request);
    const key = keyOf(request);
    const { host, vm, token, process } = request;
    const known = this.#tokens.get(key);
    const owner = process ?? known;
    if (owner !== undefined && (known?.token !== token || known.pid !== owner.pid)) {
      const { pid, startTicks } = owner;
      this.#tokens.set(key, { kind: 'token', host, vm, token, pid, startTicks, shownBy });
      this.#trySave();
    }
    const throttle = this.#throttles.get(key);
    if (throttle === undefined) return;
    this.#restoreAll([throttle]);
    if (this.#throttles.has(key)) throw unavailable(`${host}/${vm}: cannot be lifted yet: ${throttle.failure}`);
  }

  releaseAll(host: string | null): Released {
    const all = [...this.#throttles.values()].filter((throttle) => host === null || throttle.host === host);
    this.#restoreAll(all);
    const failed = all.filter((throttle) => this.#throttles.get(keyOf(throttle)) === throttle);
    return {
      released: all.filter((throttle) => !failed.includes(throttle)).map(({ host, vm }) => ({ host, vm })),
      failed: failed.map(({ host, vm, failure }) => ({ host, vm, message: failure })),
    };
  }

  /** The connection has ended: what it set last is restored. */
  ownerGone(owner: number): void {
    const its = [...this.#throttles.values()].filter((each) => each.owner === owner && each.state === 'inForce');
    for (const { host, vm } of its) this.#given.log(`${host}/${vm}: whoever throttled it has gone`);
    this.#restoreAll(its);
  }

  /** Restores what has run out, tries again what failed, and lets nobody wait longer than allowed. */
  tick(): void {
    const now = this.#given.now();
    const due = [...this.#throttles.values()].filter(({ state, untilMs }) => state === 'restoring' || untilMs <= now);
    for (const { host, vm, state } of due) {
      if (state === 'inForce') this.#given.log(`${host}/${vm}: nobody renewed the throttle`);
    }
    this.#restoreAll(due);
    for (const throttle of this.#throttles.values()) if (throttle.state === 'inForce') this.#relieve(throttle, now);
    if (this.#unsaved) this.#trySave();
  }

  #relieve(throttle: Throttle, nowMs: number): void {
    for (const cell of throttle.cells) {
      const allowance = throttle.allowances.get(cell.path);
      const told = allowance === undefined ? null : this.#waits.relieve(cell, allowance, nowMs);
      if (told !== null && !throttle.toldOfWaits) this.#given.log(`${throttle.host}/${throttle.vm}: ${told}`);
      throttle.toldOfWaits ||= told !== null;
    }
  }

  look(request: VmKey): Look {
    const throttle = this.#throttles.get(keyOf(request));
    const sinceMs = this.#changed.get(keyOf(request)) ?? null;
    if (throttle === undefined) return { throttle: null, sinceMs };
    const { share, demandCores, cores } = throttle;
    return { throttle: { share, demandCores, cores }, sinceMs };
  }

  /** Throws `throttleUnavailable`: threads like these cannot be throttled here, and why. */
  probe(tids: readonly number[]): void {
    const { files } = this.#given;
    const held = [...this.#throttles.values()].flatMap(({ cells }) => cells.flatMap((cell) => cell.tids));
    const others = tids.filter((tid) => !held.includes(tid));
    const name = ownGroupName('', 'probe', process.pid);
    // Nobody is moved: an empty group of ours gets a quota, or the hypervisor's gets its own once more.
    const cells = planCells(files, others, name, (home) => this.#turnedOn(home)).map((cell) => ({ ...cell, tids: [] }));
    const own = cells.filter(({ place }) => place.kind === 'own');
    // Journalled as a throttle is: one that is killed meanwhile, or cannot be removed, leaves no group for ever.
    const probe = { ...PROBE, cells: own, ...unheld(), state: 'restoring' as const };
    if (own.length > 0) this.#throttles.set(keyOf(probe), probe);
    try {
      this.#save();
    } catch (error) {
      this.#throttles.delete(keyOf(probe));
      throw unavailable(`the journal cannot be written (${messageOf(error)}); nothing is throttled without it`, error);
    }
    try {
      for (const cell of own) {
        openCell(files, cell);
        holdCell(files, cell, { cores: 1, busyThreads: 1, longestStretchMs: PROBE_STRETCH_MS });
      }
    } finally {
      this.#restore(probe);
      if (own.length > 0) this.#trySave();
    }
    if (this.#throttles.has(keyOf(probe))) throw unavailable(`a group cannot be removed again: ${probe.failure}`);
    for (const cell of cells) if (cell.place.kind === 'lent') restoreCell(files, cell);
  }

  status(): GuardStatus['throttles'] {
    return [...this.#throttles.values()].map(({ host, vm, state, share, cores, untilMs, cells }) => ({
      host,
      vm,
      state,
      share,
      cores,
      forMs: state === 'inForce' ? Math.max(0, untilMs - this.#given.now()) : 0,
      groups: cells.map(({ path }) => path),
    }));
  }

  #plan({ host, vm, process }: SetRequest, tids: readonly number[]): Throttle {
    const name = ownGroupName(host, vm, process.pid);
    const cells = planCells(this.#given.files, tids, name, (home) => this.#turnedOn(home));
    return { host, vm, cells, state: 'inForce', ...unheld() };
  }

  /** Writes the quotas; each cell gets what its threads may use together. */
  #hold(throttle: Throttle, { threads, share, demandCores, longestStretchMs }: SetRequest): void {
    const coresOf = new Map(threads.map(({ tid, cores }) => [tid, cores]));
    const wanted = threads.reduce((sum, { cores }) => sum + cores, 0);
    let cores = 0;
    for (const { tids, ...cell } of throttle.cells) {
      const its = tids.map((tid) => coresOf.get(tid) ?? 0);
      // Quotas are divided as the threads used CPU, so they say what each wants.
      const demands = its.map((each) => (wanted > 0 ? (demandCores * each) / wanted : demandCores / threads.length));
      const forCell = its.reduce((sum, each) => sum + each, 0);
      const allowance = { cores: forCell, busyThreads: busyThreads(demands), longestStretchMs };
      throttle.allowances.set(cell.path, allowance);
      cores += holdCell(this.#given.files, { ...cell, tids }, allowance);
    }
    throttle.state = 'inForce';
    throttle.failure = '';
    // Where the smallest quota is more than was asked for, the guest has a larger share; an idle one has all it wants.
    const raised = cores > wanted * 1.01;
    throttle.share = raised ? Math.max(share, demandCores > 0 ? Math.min(1, cores / demandCores) : 1) : share;
    throttle.demandCores = demandCores;
    throttle.cores = cores;
  }

  /** First all of them, then the journal: a slow disk keeps no guest waiting for its CPU. */
  #restoreAll(throttles: readonly Throttle[]): void {
    for (const throttle of throttles) this.#restore(throttle);
    const restored = throttles.filter((throttle) => this.#throttles.get(keyOf(throttle)) !== throttle);
    for (const { host, vm } of restored) this.#given.log(`${host}/${vm}: restored`);
    if (restored.length > 0) this.#trySave();
  }

  #restore(throttle: Throttle): void {
    throttle.state = 'restoring';
    throttle.owner = NOBODY;
    for (const { tids } of throttle.cells) this.#waits.forget(tids);
    const left: Cell[] = [];
    const failures: string[] = [];
    for (const cell of throttle.cells) {
      try {
        restoreCell(this.#given.files, cell);
      } catch (error) {
        left.push(cell);
        failures.push(`${cell.path}: ${messageOf(error)}`);
      }
    }
    throttle.cells = left;
    const failure = failures.join('; ');
    if (failure !== '') {
      if (failure !== throttle.failure)
        this.#given.log(`CANNOT RESTORE ${throttle.host}/${throttle.vm}, trying again: ${failure}`);
      throttle.failure = failure;
      return;
    }
    this.#throttles.delete(keyOf(throttle));
    this.#changed.set(keyOf(throttle), this.#given.now());
  }

  /** Did a throttle of ours turn on v2's controller for the children of this group? */
  #turnedOn(home: string): boolean {
    return [...this.#throttles.values()].some(({ cells }) =>
      cells.some(({ place }) => place.kind === 'own' && place.home === home && place.cpuOff),
    );
  }

  #checkToken({ host, vm, token }: VmKey & { readonly token: number }): void {
    const known = this.#tokens.get(keyOf({ host, vm }));
    if (known === undefined || known.token <= token || !this.#lives(known)) return;
    if (known.shownBy !== undefined && !this.#lives(known.shownBy)) return;
    throw new HostevacError(
      'leaseLost',
      `${host}/${vm}: token ${token} is stale, ${known.token} has been seen; another process drives this VM now`,
    );
  }

  #lives({ pid, startTicks }: ProcessId): boolean {
    return this.#given.startTicksOf(pid) === startTicks;
  }

  #save(): void {
    for (const [key, record] of this.#tokens) if (!this.#lives(record)) this.#tokens.delete(key);
    for (const key of this.#changed.keys()) {
      if (!this.#tokens.has(key) && !this.#throttles.has(key)) this.#changed.delete(key);
    }
    const throttles = [...this.#throttles.values()].map(
      ({ host, vm, cells }) => ({ kind: 'throttle', host, vm, cells }) as const,
    );
    this.#given.save({ throttles, tokens: [...this.#tokens.values()] });
    this.#unsaved = false;
  }

  #trySave(): void {
    try {
      this.#save();
    } catch (error) {
      if (!this.#unsaved) this.#given.log(`the journal cannot be written, trying again: ${messageOf(error)}`);
      this.#unsaved = true;
    }
  }
}

/** Of one that holds nobody. */
function unheld() {
  const allowances: Throttle['allowances'] = new Map();
  return { share: 1, demandCores: 0, cores: 0, owner: NOBODY, untilMs: 0, allowances, toldOfWaits: false, failure: '' };
}

/** A thread that wants so much of a CPU is busy. */
const BUSY_CORES = 0.4;
/** Idle threads have their timers, and what is measured scatters. */
const NEXT_TO_NOTHING_CORES = 0.1;

/** How many of a cell's threads want to run at the same time. */
function busyThreads(demands: readonly number[]): number {
  const together = Math.ceil(demands.reduce((sum, each) => sum + each, 0) - NEXT_TO_NOTHING_CORES);
  const busy = demands.filter((each) => each >= BUSY_CORES).length;
  return Math.max(1, Math.min(demands.length, Math.max(together, busy)));
}

function covers(cells: readonly Cell[], tids: readonly number[]): boolean {
  const held = cells.flatMap((cell) => cell.tids);
  return held.length === tids.length && tids.every((tid) => held.includes(tid));
}

function keyOf({ host, vm }: VmKey): string {
  return JSON.stringify([host, vm]);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function unavailable(message: string, cause?: unknown): HostevacError {
  return new HostevacError('throttleUnavailable', message, { cause });
}
