/**
 * What a look by page sampling asks of QEMU, and what its answer is worth: pure. How a look is taken is dirty-rate.ts.
 *
 * QEMU hashes pages that it draws at random (with replacement), waits, hashes the same pages again in the same order and
 * counts those that differ; the rate is that part of all memory, over the time from the first hash to the end of the wait,
 * rounded down to whole MiB/s. So what counts for each page is one window, as long as the time told; when hashing took
 * longer than the window, the time told is what hashing took. A page written with what it held is not seen.
 * Source: migration/dirtyrate.c and dirtyrate.h; which member came when: qapi/migration.json.
 */
import type { DirtyingMeasured } from '../hypervisor.ts';
import type { FeatureName } from './features.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PAGE_BYTES = 4_096;

/** MIN_CALC_TIME_MS and MAX_CALC_TIME_MS; without milliseconds the same in seconds, from 1. */
const WINDOWS_MS = { least: 50, most: 60_000 } as const;
/** MIN_ and MAX_SAMPLE_PAGE_COUNT, per GiB. */
const PAGES_PER_GIB = { least: 128, most: 16_384 } as const;
/** DIRTYRATE_DEFAULT_SAMPLE_PAGES of the releases that take no number. */
export const PAGES_PER_GIB_UNASKED = 512;
/**
 * Both times together a page takes 1.8 µs (see dirty-rate.ts): a look at so many takes 30 ms of one core. From 128 GiB of
 * memory on it takes more, because QEMU samples no fewer than 128 pages of each GiB.
 */
const PAGES_PER_LOOK = 16_384;

/** As many as a look may cost, within what QEMU takes. */
export function pagesPerGibFor(memoryBytes: number): number {
  const affordable = Math.floor((PAGES_PER_LOOK * GIB) / memoryBytes);
  return Math.max(PAGES_PER_GIB.least, Math.min(PAGES_PER_GIB.most, affordable));
}

export interface SamplingLook {
  readonly windowMs: number;
  readonly pagesPerGib: number;
  /** Arguments of `calc-dirty-rate`, and of `query-dirty-rate`. */
  readonly begin: Readonly<Record<string, number | string>>;
  readonly ask: Readonly<Record<string, string>>;
  /** What `query-dirty-rate` counts its `calc-time` in. */
  readonly unitMs: number;
}

/** null: this QEMU cannot. A window that it does not take becomes the next one that it does. */
export function samplingLook(
  has: Readonly<Record<FeatureName, boolean>>,
  memoryBytes: number,
  windowMs: number,
): SamplingLook | null {
  if (!has.dirtyRate) return null;
  const unitMs = has.dirtyRateMilliseconds ? 1 : 1_000;
  const asked = Math.ceil(Math.max(WINDOWS_MS.least, Math.min(WINDOWS_MS.most, windowMs)) / unitMs);
  const unit = has.dirtyRateMilliseconds ? { 'calc-time-unit': 'millisecond' } : {};
  const pages = pagesPerGibFor(memoryBytes);
  return {
    windowMs: asked * unitMs,
    pagesPerGib: has.dirtyRateSamplePages ? pages : PAGES_PER_GIB_UNASKED,
    begin: { 'calc-time': asked, ...unit, ...(has.dirtyRateSamplePages ? { 'sample-pages': pages } : {}) },
    ask: unit,
    unitMs,
  };
}

export interface SampledRate {
  /** As QEMU tells it; whole numbers. */
  readonly mibPerSec: number;
  readonly windowMs: number;
  readonly pagesPerGib: number;
  readonly memoryBytes: number;
}

/**
 * One sample stands for `grain` bytes. The rate leaves a few counts of samples possible (often one only, in a short window),
 * all as likely; of those the mean. Two errors add up: which count it was, and that it was a draw (binomial; with one more
 * than was found, so that finding none is no proof of none).
 */
export function dirtied({ mibPerSec, windowMs, pagesPerGib, memoryBytes }: SampledRate): DirtyingMeasured {
  const grain = GIB / pagesPerGib;
  const perSample = grain / ((MIB * windowMs) / 1_000);
  const first = Math.ceil(mibPerSec / perSample);
  const last = Math.ceil((mibPerSec + 1) / perSample) - 1;
  // No count fits: small blocks of memory (ROMs) are sampled and count for nothing, so a grain is not quite what it should be.
  const fits = last >= first;
  const samples = fits ? (first + last) / 2 : (mibPerSec + 0.5) / perSample;
  const counts = fits ? last - first + 1 : 1 / perSample;
  const rounding = Math.max(0, counts ** 2 - 1) / 12;
  const part = Math.min(1, (samples * grain) / memoryBytes);
  const drawing = (samples + 1) * Math.max(1 - part, grain / memoryBytes);
  return {
    windowMs,
    bytes: Math.min(memoryBytes, samples * grain),
    errorBytes: Math.max(PAGE_BYTES, grain * Math.sqrt(rounding + drawing)),
  };
}
