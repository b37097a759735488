/** The least harm that anybody could have done to a lab guest, by the oracle, for what the guest was seen to write. Pure. */
import { downtimeLimit } from '../../src/convergence/downtime.ts';
import { PROFILE_NAMES, profileNamed } from '../../src/lab/profiles.ts';
import { leastHarm, type OracleGuest, type Possible } from '../convergence/oracle.ts';
import type { Result } from './results.ts';

/** Between two QEMUs on one machine, without a limit: 10 MiB go in some 10 ms. */
export const LINK_BYTES_PER_SEC = 2 ** 30;
/** Of the downtime, what no link shortens: less than QEMU was ever seen to need (6 ms). */
export const HANDOVER_MS = 5;

export interface Wanted {
  readonly floor: number;
  readonly maxTimeMs: number;
}

/** A guest that writes so many times as fast, over so many times as much. */
export interface Hotter {
  readonly rateTimes: number;
  readonly workingSetTimes: number;
}

const AS_SEEN: Hotter = { rateTimes: 1, workingSetTimes: 1 };

/** Of one guest, seen in these runs; null: it changes its ways, the oracle knows only guests that do not. */
export function leastPossible(
  runs: readonly Result[],
  { floor, maxTimeMs }: Wanted,
  { rateTimes, workingSetTimes }: Hotter = AS_SEEN,
): Possible | null {
  const [first] = runs;
  const name = PROFILE_NAMES.find((known) => known === first?.profile);
  if (first === undefined || name === undefined) return null;
  const { pattern, touchedBytes, memoryBytes, phases } = profileNamed(name);
  const [phase, ...others] = phases;
  const seenBytesPerSec = median(runs.map(({ writtenBytesPerSec }) => writtenBytesPerSec));
  const demandCores = median(runs.map((run) => run.demandCores[0] ?? null));
  if (phase === undefined || others.length > 0 || seenBytesPerSec === null || demandCores === null) return null;
  const rateBytesPerSec = rateTimes * seenBytesPerSec;
  const workingSetBytes = Math.min(touchedBytes, workingSetTimes * phase.workingSetBytes);
  const guest: OracleGuest = { pattern, rateBytesPerSec, workingSetBytes, touchedBytes, memoryBytes, demandCores };
  return leastHarm(guest, {
    bandwidthBytesPerSec: first.terms.bandwidthBytesPerSec,
    switchoverBytesPerSec: LINK_BYTES_PER_SEC,
    downtimeLimitMs: downtimeLimit(first.terms.maxStallMs),
    handoverMs: HANDOVER_MS,
    floor,
    maxTimeMs,
  });
}

function median(values: readonly (number | null)[]): number | null {
  const sorted = values.filter((value) => value !== null).sort((one, other) => one - other);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? null;
}
