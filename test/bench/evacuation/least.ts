/**
 * How soon a host could be empty at the least: every page that is in use sent once; and what pre-copy needs, with perfect
 * knowledge of guests that write while they are copied, each held at the floor all the time, one after the other. Pure.
 */
import { makespanLowerBound } from '../../../src/bandwidth/lower-bound.ts';
import { downtimeLimit } from '../../../src/convergence/downtime.ts';
import type { GuestProfile } from '../../../src/lab/profiles.ts';
import { leastHarm, type OracleGuest } from '../../convergence/oracle.ts';
import { rateOf } from '../../lab/twin.ts';
import { HANDOVER_MS, LINK_BYTES_PER_SEC } from '../least.ts';

const LONGEST_MS = 600_000;
const EXACT_MS = 50;

export interface Terms {
  readonly bandwidthBytesPerSec: number;
  readonly maxStallMs: number;
  readonly floor: number;
}

export function pagesOnceMs(profiles: readonly GuestProfile[], bandwidthBytesPerSec: number): number {
  const transfers = profiles.map(({ touchedBytes }) => ({ source: 'from', destination: null, bytes: touchedBytes }));
  const both = { egress: bandwidthBytesPerSec, ingress: bandwidthBytesPerSec };
  return makespanLowerBound(transfers, { capacities: { from: both, one: both, other: both } }).ms;
}

/** Throws when one of them never converges at the floor. */
export function precopyMs(profiles: readonly GuestProfile[], terms: Terms): number {
  return profiles.reduce((sum, profile) => sum + soonestMs(profile, terms), 0);
}

/** The shortest time within which the oracle can do it at all. */
function soonestMs(profile: GuestProfile, { bandwidthBytesPerSec, maxStallMs, floor }: Terms): number {
  const { name, pattern, touchedBytes, memoryBytes, phases, cpuShare } = profile;
  const workingSetBytes = phases[0]?.workingSetBytes ?? 0;
  const rateBytesPerSec = rateOf(profile);
  const guest: OracleGuest = {
    pattern,
    rateBytesPerSec,
    workingSetBytes,
    touchedBytes,
    memoryBytes,
    demandCores: cpuShare,
  };
  const feasible = (maxTimeMs: number): boolean =>
    leastHarm(guest, {
      bandwidthBytesPerSec,
      switchoverBytesPerSec: LINK_BYTES_PER_SEC,
      downtimeLimitMs: downtimeLimit(maxStallMs),
      handoverMs: HANDOVER_MS,
      floor,
      maxTimeMs,
    }).feasible;
  if (!feasible(LONGEST_MS)) throw new Error(`${name} never converges at ${floor} of its CPU`);
  let [no, yes] = [0, LONGEST_MS];
  while (yes - no > EXACT_MS) {
    const middle = (no + yes) / 2;
    if (feasible(middle)) yes = middle;
    else no = middle;
  }
  return yes;
}
