/**
 * Holding a guest until all is sent (`forceComplete`): it gets as little CPU as can be, and where that alone does not end
 * it soon, as long a standstill as what is left needs. Pure.
 */
import type { Policy } from '../domain/policy.ts';
import { formatDuration, formatShare } from '../domain/units.ts';
import { LEAST_SHARE, Outlook } from './candidates.ts';
import type { Relaxation } from './controller.ts';
import type { DirtyModel } from './dirty-model.ts';
import { dirtiedBytes } from './dirtying.ts';
import { plannedHandoverMs } from './downtime.ts';
import type { Standing } from './forward.ts';
import { floorOf } from './infeasible.ts';
import type { Candidate } from './policy-behaviour.ts';

/** Slowed as far as can be, it ends within that, or within its max time; else it is held altogether. */
const SOON_MS = 10_000;
const SOON_PART = 0.1;
/** More likely than not. */
const LIKELY = 0.5;
/** Of what is expected to be left: bandwidth and guest may err. */
const MARGIN = 1.2;
const MARGIN_MS = 50;

export interface Forced {
  readonly candidate: Candidate;
  readonly maxStallMs: number;
  readonly relaxed: readonly Relaxation[];
}

export interface Forcing {
  /** What it may stand still now; never becomes less. */
  readonly stallMs: number;
  readonly timeLeftMs: number;
  readonly why: string;
}

export function forced(
  from: Standing,
  model: DirtyModel,
  policy: Policy,
  { stallMs, timeLeftMs, why }: Forcing,
): Forced {
  const soonMs = Math.max(SOON_MS, SOON_PART * policy.maxTimeMs, timeLeftMs);
  const outlook = new Outlook(from, model, soonMs);
  const plan = outlook.plan({ share: LEAST_SHARE, begins: 'now' });
  const relaxed: Relaxation[] = [{ requirement: 'maxTime', why }];
  if (floorOf(policy) > LEAST_SHARE) {
    relaxed.push({ requirement: 'minCpu', why: `${why}; held at ${formatShare(LEAST_SHARE)} until all is sent` });
  }
  const needed = plan.endsInTime >= LIKELY ? stallMs : Math.max(stallMs, standstillMs(from, model));
  if (needed > policy.maxStallMs) {
    relaxed.push({
      requirement: 'maxStall',
      why: `${why}; sending what is left takes up to ${formatDuration(needed)}`,
    });
  }
  return { candidate: plan, maxStallMs: needed, relaxed };
}

/** For what may be left when the pass being sent has ended. */
function standstillMs(from: Standing, model: DirtyModel): number {
  const bytesPerMs = from.bandwidthBytesPerSec / 1_000;
  if (bytesPerMs <= 0) return from.downtimeLimitMs;
  const cpuMs = from.cpuMsInPass + LEAST_SHARE * (from.leftBytes / bytesPerMs);
  const bytes = model.hypotheses.reduce((most, guest) => Math.max(most, dirtiedBytes(guest, cpuMs)), 0);
  return MARGIN * (bytes / bytesPerMs) + MARGIN_MS + plannedHandoverMs(from.guest);
}
