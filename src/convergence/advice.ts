/**
 * What would help a guest that could not be moved as it was asked for: one requirement at a time is made easier, and named
 * only where another attempt, played forward from its start by what is known now, then ends in time. Pure.
 */
import type { Policy } from '../domain/policy.ts';
import { formatDuration, formatRate, formatShare } from '../domain/units.ts';
import { LEAST_SHARE, Outlook, SURE, sharesDownTo } from './candidates.ts';
import type { DirtyModel } from './dirty-model.ts';
import { downtimeLimit } from './downtime.ts';
import type { Standing } from './forward.ts';
import { floorOf, mostLikely } from './infeasible.ts';

/** No more than so many times what was asked for: a stall or a time beyond that is no advice. */
const MOST_TIMES = 16;
/** Halvings on a log scale: the figure is at most a tenth more than needed. */
const HALVINGS = 5;
const MIB = 2 ** 20;

/** `from`: what is sent with, and the guest, as in the attempt that ended. */
export function adviceFor(policy: Policy, model: DirtyModel, from: Standing): string {
  const asked = {
    floor: floorOf(policy),
    maxTimeMs: policy.maxTimeMs,
    stallMs: policy.maxStallMs,
    bytesPerSec: from.bandwidthBytesPerSec,
  };
  const works = (change: Partial<typeof asked>): boolean => {
    const { floor, maxTimeMs, stallMs, bytesPerSec } = { ...asked, ...change };
    const start: Standing = {
      ...from,
      pass: 0,
      leftBytes: from.guest.touchedBytes,
      cpuMsInPass: 0,
      passElapsedMs: 0,
      bandwidthBytesPerSec: bytesPerSec,
      downtimeLimitMs: downtimeLimit(stallMs, from.guest.handoverMs),
    };
    // The ends of the range, and some between: the gentlest or the hardest of what is allowed ends it, if anything does.
    const shares = sharesDownTo(floor).filter((_, index, all) => index % 4 === 1 || index === all.length - 1);
    return mostLikely(new Outlook(start, model, maxTimeMs).candidates(shares)) >= SURE;
  };
  if (works({})) return 'as the guest is known now, another attempt would end in time';
  const lower = [0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, LEAST_SHARE].filter((share) => share < asked.floor);
  const floor = lower.find((share) => works({ floor: share }));
  const time = least(asked.maxTimeMs, niceDuration, (maxTimeMs) => works({ maxTimeMs }));
  const stall = least(asked.stallMs, niceDuration, (stallMs) => works({ stallMs }));
  const rate = least(asked.bytesPerSec, niceRate, (bytesPerSec) => works({ bytesPerSec }));
  const would = [
    ...(floor === undefined
      ? []
      : [`a min CPU below ${formatShare(policy.minCpuShare)} (${formatShare(floor)} would do)`]),
    ...(time === null
      ? []
      : [`a max time above ${formatDuration(policy.maxTimeMs)} (${formatDuration(time)} would do)`]),
    ...(stall === null
      ? []
      : [`a max stall above ${formatDuration(policy.maxStallMs)} (${formatDuration(stall)} would do)`]),
    ...(rate === null ? [] : [`more than ${formatRate(asked.bytesPerSec)} (${formatRate(rate)} would do)`]),
  ];
  if (would.length === 0) return 'no single requirement made easier would help, only a guest that writes less';
  return `what would help: ${would.join(', or ')}`;
}

/** The least that works, rounded up to a figure that is printed as it is; null: not even the most that is tried. */
function least(asked: number, nice: (value: number) => number, works: (value: number) => boolean): number | null {
  if (!(asked > 0)) return null;
  let good = nice(asked * MOST_TIMES);
  if (!works(good)) return null;
  let low = asked;
  for (let step = 0; step < HALVINGS; step += 1) {
    const value = nice(Math.sqrt(low * good));
    if (value >= good) break;
    if (works(value)) good = value;
    else low = value;
  }
  return good;
}

/** Up to whole 10 ms, 100 ms, seconds, minutes. */
function niceDuration(ms: number): number {
  const unit = ms < 900 ? 10 : ms < 9_500 ? 100 : ms < 600_000 ? 1_000 : 60_000;
  return Math.ceil(ms / unit) * unit;
}

function niceRate(bytesPerSec: number): number {
  const unit = bytesPerSec >= 1_000 * MIB ? 102.4 * MIB : bytesPerSec >= 8 * MIB ? MIB : MIB / 10;
  return Math.ceil(bytesPerSec / unit - 1e-9) * unit;
}
