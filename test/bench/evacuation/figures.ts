/** What emptying a host has cost, from what was counted outside of whoever did it. Pure. */
import type { EgressSample, Guest } from './scene.ts';

export interface Count {
  readonly atMs: number;
  readonly writes: number;
}

/**
 * CPU time that the guests would have used and did not get, ms: who writes less by a tenth had a tenth less. Throws for a guest
 * that was not seen.
 */
export function harmCpuMs(
  guests: readonly Guest[],
  before: ReadonlyMap<string, Count>,
  after: ReadonlyMap<string, Count>,
): number {
  return guests.reduce((sum, { name, writesPerMs, cores }) => {
    const [from, to] = [before.get(name), after.get(name)];
    if (from === undefined || to === undefined) throw new Error(`${name} was not seen running on both sides`);
    if (writesPerMs === 0) throw new Error(`${name} wrote nothing while it was left alone`);
    const ms = to.atMs - from.atMs;
    return sum + (1 - (to.writes - from.writes) / (writesPerMs * ms)) * ms * cores;
  }, 0);
}

/** Bytes/s between two moments. */
export function meanRate(samples: readonly EgressSample[], fromMs: number, toMs: number): number {
  const within = samples.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs);
  const [first, last] = [within[0], within.at(-1)];
  if (first === undefined || last === undefined || first === last) return Number.NaN;
  return ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1_000;
}

/** The most in any stretch of so long, bytes/s; of shorter ones where there is none. */
export function mostRate(samples: readonly EgressSample[], overMs: number): number {
  let most = 0;
  for (const [index, first] of samples.entries()) {
    const last = samples.find(({ atMs }, at) => at > index && atMs - first.atMs >= overMs);
    if (last === undefined) break;
    most = Math.max(most, ((last.bytes - first.bytes) / (last.atMs - first.atMs)) * 1_000);
  }
  return most;
}

/** From the first to the last moment at which the host sent as migrations do, ms of the samples' clock. */
export function sending(
  samples: readonly EgressSample[],
  least: number,
): { readonly fromMs: number; readonly toMs: number } | null {
  const busy = samples.flatMap((sample, index) => {
    const before = samples[index - 1];
    if (before === undefined) return [];
    const rate = ((sample.bytes - before.bytes) / (sample.atMs - before.atMs)) * 1_000;
    return rate >= least ? [{ fromMs: before.atMs, toMs: sample.atMs }] : [];
  });
  const [first, last] = [busy[0], busy.at(-1)];
  return first === undefined || last === undefined ? null : { fromMs: first.fromMs, toMs: last.toMs };
}
