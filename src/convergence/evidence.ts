/**
 * What a look at a guest counts for: which looks are fit to be used at all, how exact each is taken to be and how much it
 * still counts at its age, and how likely it is for a guest of a given curve. Pure.
 */
import type { DirtyWindow } from '../domain/prediction.ts';
import type { GuestFacts, Pattern } from './dirty-model.ts';

/** A look that can be used, ready for `logLikelihood`. */
export interface Look {
  readonly window: DirtyWindow;
  readonly cpuSec: number;
  readonly bytes: number;
  /** Variance of `bytes`: sampling and rounding. */
  readonly errorSquared: number;
  /** Variance of the model as a share of what it says: guests do not write as evenly as the curve has it. */
  readonly relativeSquared: number;
  /** 0..1: how much it counts. */
  readonly power: number;
}

const DAY_MS = 86_400_000;
const GIB = 2 ** 30;
const LEAST_MEMORY = 2 ** 20;
const MOST_MEMORY = 2 ** 48;

/** Of the model, for a look of now and for one of an earlier migration. */
const RELATIVE_ERROR = 0.06;
const HISTORY_ERROR = 0.6;
/** A guest drifts: the error that a minute of age adds. It grows with the root of the age, as that of a random walk. */
const DRIFT_PER_ROOT_MINUTE = 0.2;
const DRIFT_LIMIT = 1;
const LIVE_HALF_LIFE_MS = 45_000;
/** When nothing newer is known, something old is better than nothing. */
const LEAST_LIVE_POWER = 0.05;
/** Of looks at a phase that is over. */
const OUTLIVED_POWER = 0.02;
const HISTORY_HALF_LIFE_MS = 7 * DAY_MS;
const HISTORY_POWER = 0.5;
/** So little a guest dirties by being looked at; and nobody samples finer. */
const LEAST_ERROR_BYTES = 32 * 2 ** 10;
/** Guests write in bursts on a timer, and a look begins and ends a little late: seconds. */
const JITTER_SEC = 0.003;
/** Heavy tails (Student's t, so many degrees of freedom): one look that went wrong does not outvote the others. */
const FREEDOM = 4;

/** Whether a look can be true at all: finite, some time, not negative. */
export function isSound({ atMs, cpuMs, bytes, errorBytes }: DirtyWindow): boolean {
  return [atMs, cpuMs, bytes, errorBytes].every(Number.isFinite) && cpuMs > 0 && bytes >= 0 && errorBytes >= 0;
}

/** No more can be dirtied than there is memory; what a hypervisor adds (video memory, firmware) is little. */
export function fitsIn(guest: GuestFacts, { bytes }: DirtyWindow): boolean {
  return bytes <= memoryOf(guest) * 1.1;
}

/** What a hypervisor says of memory may be nonsense as well; and no guest has less than a MiB or more than 256 TiB. */
export function memoryOf({ memoryBytes }: GuestFacts): number {
  return memoryBytes >= LEAST_MEMORY && memoryBytes <= MOST_MEMORY ? memoryBytes : GIB;
}

export function lookOf(window: DirtyWindow, weighed: { relativeError: number; power: number }): Look {
  return {
    window,
    cpuSec: window.cpuMs / 1_000,
    bytes: window.bytes,
    errorSquared: Math.min(MOST_MEMORY, Math.max(LEAST_ERROR_BYTES, window.errorBytes)) ** 2,
    relativeSquared: weighed.relativeError ** 2,
    power: weighed.power,
  };
}

/**
 * Live looks lose half of their weight in 45 s, and nearly all when the guest has changed since (`outlived`: those are among
 * the windows). Those of earlier migrations fade over days, and beside live ones at once.
 */
export function weighedLooks(windows: readonly DirtyWindow[], nowMs: number, outlived: readonly DirtyWindow[]): Look[] {
  const live = windows
    .filter(({ source }) => source !== 'history')
    .map((window) => {
      const ageMs = Math.max(0, nowMs - window.atMs);
      const drift = Math.min(DRIFT_LIMIT, DRIFT_PER_ROOT_MINUTE * Math.sqrt(ageMs / 60_000));
      const power = Math.max(LEAST_LIVE_POWER, 2 ** (-ageMs / LIVE_HALF_LIFE_MS));
      return lookOf(window, {
        relativeError: Math.hypot(RELATIVE_ERROR, drift),
        power: outlived.includes(window) ? Math.min(OUTLIVED_POWER, power) : power,
      });
    });
  const fresh = live.reduce((sum, { power }) => sum + power, 0);
  const earlier = windows
    .filter(({ source }) => source === 'history')
    .map((window) => {
      const faded = 2 ** (-Math.max(0, nowMs - window.atMs) / HISTORY_HALF_LIFE_MS);
      return lookOf(window, { relativeError: HISTORY_ERROR, power: (HISTORY_POWER * faded) / (1 + 2 * fresh) });
    });
  return [...earlier, ...live];
}

/**
 * Of one look for a guest of rate `rate` (bytes/s) and working set `set` (bytes), up to a constant; not yet weighed.
 * `addedSquared`: more variance of the model, as a share of what it says. The curve is that of `dirtying.ts`, spelled out
 * because this is called a hundred thousand times for one model.
 */
export function logLikelihood(look: Look, rate: number, set: number, pattern: Pattern, addedSquared: number): number {
  const written = rate * look.cpuSec;
  let expected: number;
  let slope: number;
  if (pattern === 'sweep') {
    expected = Math.min(written, set);
    slope = written < set ? rate : 0;
  } else {
    const missed = Math.exp(-written / set);
    expected = set * (1 - missed);
    slope = rate * missed;
  }
  const jitter = slope * JITTER_SEC;
  const variance = look.errorSquared + (look.relativeSquared + addedSquared) * expected * expected + jitter * jitter;
  const off = look.bytes - expected;
  // log(variance) + (FREEDOM + 1) log(1 + ...), in one logarithm (so the fifth power is of FREEDOM 4): far from overflow for all that memory and errors can be.
  const odd = 1 + (off * off) / (variance * FREEDOM);
  const squared = odd * odd;
  return -0.5 * Math.log(variance * squared * squared * odd);
}
