/**
 * How much CPU a guest would use if nobody held it back: measured while nobody does, frozen while somebody does, and
 * then only falling (a guest that does not use what it may have wants no more). Fed with samples; reads nothing.
 */

export interface CpuSample {
  /** Real monotonic ms. */
  readonly atMs: number;
  /** CPU time of each vCPU thread, ms. */
  readonly usedMs: readonly number[];
  /**
   * How long each wanted to run and could not, ms: for its quota as well as for its neighbours. The kernel adds a wait
   * only once it is over.
   */
  readonly waitedMs: readonly number[];
  /** Which of them run now, or wait for it. */
  readonly runnable: readonly boolean[];
}

export interface ThrottleInForce {
  readonly demandCores: number;
  readonly cores: number;
}

/** The shortest stretch that says something about demand; the very first one may be shorter. */
const WINDOW_MS = 500;
export const FIRST_WINDOW_MS = 250;
/**
 * One such stretch scatters: a guest that wants 0.5 cores used 0.42 to 0.72. So demand is the mean of the last ones together,
 * unless the guest has changed: then it is the mean of those since. It has where the last three all differ from the mean of
 * those before them to the same side by more than a quarter of it, or the last two by more than half of it.
 */
const REMEMBERED_MS = 3_000;
const CHANGED = [
  { windows: 3, part: 0.25 },
  { windows: 2, part: 0.5 },
] as const;
/** Shorter ones scatter too much to tell a change from. */
const TELLING_MS = 1_000;
/** Less is no change, however little it was before. */
const LITTLE_CORES = 0.03;
/**
 * A throttled guest must want clearly less than it may have, for so long, before it is believed to want less. What it
 * wanted is the time in which its threads ran or waited: one that got little because others took the CPU has waited.
 * The kernel counts the wait for a quota's next period, too (sched_info, kernel/sched/stats.h; measured on Linux 6.18: a
 * busy loop at 20% waits 1.6 s of 2 s), so what is wanted is never taken for less than it is.
 */
const THROTTLED_WINDOW_MS = 1_000;
const CLEARLY = 0.8;
/** Every vCPU may use a little of the quota: the guest's scheduler moves its work to those that were idle. */
const SMALLEST_PART = 0.05;

export class DemandMeter {
  /** Begin of the window; it lies wholly in throttled or in unthrottled time. */
  #from: CpuSample | null = null;
  #last: CpuSample | null = null;
  /** What the throttles of the window would have let it use, and the time that counts; see `#countStretch`. */
  #allowedMs = 0;
  #countedMs = 0;
  #cores: number | null = null;
  #demandCores: number | null = null;
  /** Unthrottled, one after the other, the last one last. */
  #windows: readonly Window[] = [];
  #rates: readonly number[] = [];
  /** Begin of the stretch that the next rates are of; they do not care what is throttled. */
  #threadsFrom: CpuSample | null = null;
  /** Since when each thread was not seen to run: for all that is known it waits since then, if it can run. */
  #stillSinceMs: readonly number[] = [];
  #previous: CpuSample | null = null;

  /** null: not known yet. */
  get demandCores(): number | null {
    return this.#demandCores;
  }

  /**
   * `throttle`: in force now, null: none. `sinceMs`: when throttling last began or ended, monotonic; null: not since
   * anybody remembers.
   */
  observe(sample: CpuSample, throttle: ThrottleInForce | null, sinceMs: number | null): void {
    this.#observeThreads(sample);
    this.#observeWaits(sample);
    const cores = throttle?.cores ?? null;
    const from = this.#from;
    const changed =
      (cores === null) !== (this.#cores === null) || (sinceMs !== null && from !== null && from.atMs < sinceMs);
    if (from === null || changed) {
      this.#begin(sample);
      this.#windows = [];
      this.#cores = cores;
      if (throttle !== null) this.#demandCores = throttle.demandCores;
      return;
    }
    const elapsedMs = sample.atMs - from.atMs;
    const usedMs = total(sample.usedMs) - total(from.usedMs);
    if (cores === null) {
      if (elapsedMs < (this.#demandCores === null ? FIRST_WINDOW_MS : WINDOW_MS)) return;
      this.#windows = sinceChange([...this.#windows, { ms: elapsedMs, usedMs }]);
      this.#demandCores = coresIn(this.#windows);
      this.#begin(sample);
      return;
    }
    this.#countStretch(sample, cores);
    if (this.#countedMs < THROTTLED_WINDOW_MS) return;
    const wantedMs = usedMs + total(sample.waitedMs) - total(from.waitedMs) + this.#waitingMs(sample);
    if (wantedMs < CLEARLY * this.#allowedMs) {
      this.#demandCores = Math.min(this.#demandCores ?? Number.POSITIVE_INFINITY, wantedMs / this.#countedMs);
    }
    this.#begin(sample);
  }

  /** How a quota is divided among the vCPUs: as they used CPU lately, throttled or not. Sums up to 1. */
  parts(threads: number): number[] {
    const rates = Array.from({ length: threads }, (_, index) => this.#rates[index] ?? 0);
    const sum = rates.reduce((one, other) => one + other, 0);
    if (sum === 0) return rates.map(() => 1 / threads);
    return rates.map((rate) => (rate / sum + SMALLEST_PART / threads) / (1 + SMALLEST_PART));
  }

  #begin(sample: CpuSample): void {
    this.#from = sample;
    this.#last = sample;
    this.#allowedMs = 0;
    this.#countedMs = 0;
  }

  /**
   * A guest that stands still (switchover, QMP `stop`) uses nothing at all; one that idles has its timers. Such stretches
   * say nothing of what it wants. One in which it stood still for a part only cannot be told from here, and counts.
   */
  #countStretch(sample: CpuSample, cores: number): void {
    const last = this.#last ?? sample;
    const stretchMs = sample.atMs - last.atMs;
    if (total(sample.usedMs) > total(last.usedMs)) {
      this.#allowedMs += stretchMs * Math.min(cores, this.#cores ?? cores);
      this.#countedMs += stretchMs;
    }
    this.#cores = cores;
    this.#last = sample;
  }

  #observeWaits(sample: CpuSample): void {
    const previous = this.#previous;
    this.#previous = sample;
    this.#stillSinceMs = sample.usedMs.map((used, index) => {
      const since = this.#stillSinceMs[index] ?? sample.atMs;
      return previous !== null && used !== previous.usedMs[index] ? previous.atMs : since;
    });
  }

  /** Waits that are not over: at most since the last look at which the thread had run. */
  #waitingMs(sample: CpuSample): number {
    return total(
      sample.runnable.map((runnable, index) =>
        runnable ? sample.atMs - (this.#stillSinceMs[index] ?? sample.atMs) : 0,
      ),
    );
  }

  #observeThreads(sample: CpuSample): void {
    const from = this.#threadsFrom;
    if (from !== null && sample.atMs - from.atMs < FIRST_WINDOW_MS) return;
    this.#threadsFrom = sample;
    if (from !== null)
      this.#rates = sample.usedMs.map((used, index) => Math.max(0, used - (from.usedMs[index] ?? used)));
  }
}

interface Window {
  readonly ms: number;
  readonly usedMs: number;
}

function lengthOf(windows: readonly Window[]): number {
  return windows.reduce((sum, { ms }) => sum + ms, 0);
}

function coresIn(windows: readonly Window[]): number {
  const ms = lengthOf(windows);
  return ms > 0 ? windows.reduce((sum, { usedMs }) => sum + usedMs, 0) / ms : 0;
}

/** Those of the windows that tell what is wanted now; the last one always does. */
function sinceChange(windows: readonly Window[]): readonly Window[] {
  for (const { windows: count, part } of CHANGED) {
    const [before, since] = [windows.slice(0, -count), windows.slice(-count)];
    const cores = coresIn(before);
    const apart = Math.max(LITTLE_CORES, part * cores);
    const off = since.map((window) => coresIn([window]) - cores);
    const changed = off.every((each) => each > apart) || off.every((each) => each < -apart);
    if (lengthOf(before) >= TELLING_MS && changed) return since;
  }
  let kept = windows;
  while (lengthOf(kept.slice(1)) >= REMEMBERED_MS) kept = kept.slice(1);
  return kept;
}

function total(each: readonly number[]): number {
  return each.reduce((sum, one) => sum + one, 0);
}
