/**
 * What a plan of throttling will cost, as far as is known of the guest: every hypothesis is played forward, and the
 * outcomes together, by weight, are the prediction. What no evidence can tell is added here, so that also a guest that is
 * known perfectly gets an interval and not a point. Pure.
 */
import { HostevacError } from '../domain/errors.ts';
import type { Interval, Prediction } from '../domain/prediction.ts';
import { horizonMs } from '../domain/what-if-words.ts';
import type { DirtyModel, Hypothesis } from './dirty-model.ts';
import { usualHandoverMs } from './downtime.ts';
import { type Outcome, playForward, type Standing, type ThrottlePlan } from './forward.ts';

/**
 * How far off the rate of a guest may be in the next seconds though it was right in the last. Near equilibrium (it dirties
 * about what is sent) this decides about everything: one guest of 16 MiB/s at 20 MiB/s took 16, 43 and 50 s in three equal
 * runs, 12..55 s with this. Far from it, it makes a few percent.
 */
const RATE_ERROR = 0.18;
/** Clocks, bursts and rates of sending, measured on QEMU with nothing else unknown. */
const TIME_ERROR = 0.03;
const BURST_MS = 100;
/** Fixed part of a switchover: 20..80 ms on QEMU, also on a busy machine; so much more than usual at the most. */
const HANDOVER_LEAST_MS = 20;
const HANDOVER_LATE_MS = 50;
/**
 * QEMU lifts its bandwidth limit for the last bytes; how much faster the link is nobody knows before: no faster, three times,
 * ten times (between two QEMUs on one machine more: 16 to 69 ms of downtime for up to 10 MiB at a limit of 40 MiB/s).
 */
const SWITCHOVER_SPEEDUP = { usual: 3, most: 10 };
/** One in ten outcomes is outside of an interval, half of them on either side. */
const TAIL = 0.05;
/** Of a hypothesis's weight, what goes to each of its two extremes; more than `TAIL`, so that they bound the interval. */
const EXTREME = 0.06;

/** One figure of one hypothesis: the least, the expected and the most. */
type Spread = readonly [low: number, mid: number, high: number];

interface Played {
  readonly weight: number;
  readonly totalMs: Spread;
  readonly downtimeMs: Spread;
  readonly transferredBytes: Spread;
  readonly harmCpuMs: Spread;
  readonly meanShare: number;
  /** Weight that ends in time: all of it, or without one or more of its cases. */
  readonly inTime: number;
}

/**
 * From where it stands to its end. Hypotheses that never end count as held until `horizonMs` and stopped then. Throws
 * `internal` when the model has no hypothesis.
 */
export function predict(from: Standing, model: DirtyModel, plan: ThrottlePlan, maxTimeLeftMs: number): Prediction {
  const all = model.hypotheses.reduce((sum, { weight }) => sum + weight, 0);
  if (!(all > 0)) throw new HostevacError('internal', 'a dirty model without a hypothesis of any weight');
  const played = model.hypotheses.map((hypothesis) => playOne(from, hypothesis, plan, maxTimeLeftMs));
  const mean = (of: (one: Played) => number) => played.reduce((sum, one) => sum + one.weight * of(one), 0) / all;
  return {
    totalMs: interval(played, ({ totalMs }) => totalMs),
    downtimeMs: interval(played, ({ downtimeMs }) => downtimeMs),
    transferredBytes: interval(played, ({ transferredBytes }) => transferredBytes),
    harmCpuMs: interval(played, ({ harmCpuMs }) => harmCpuMs),
    meanShare: within(
      0,
      mean(({ meanShare }) => meanShare),
      1,
    ),
    minShare: plan.share,
    endsInTime: within(
      0,
      mean(({ inTime }) => inTime),
      1,
    ),
  };
}

/** A hypothesis with its rate as it is and with both errors; the times of each may be off by a little as well. */
function playOne(from: Standing, hypothesis: Hypothesis, plan: ThrottlePlan, maxTimeLeftMs: number): Played {
  const limitMs = horizonMs(maxTimeLeftMs);
  const { demandCores } = from.guest;
  const usualMs = usualHandoverMs(from.guest);
  const slowed = (1 - plan.share) * demandCores;
  const stopped: Pick<Outcome, 'downtimeMs' | 'harmCpuMs'> = {
    downtimeMs: from.downtimeLimitMs + usualMs,
    harmCpuMs: limitMs * slowed + (from.downtimeLimitMs + usualMs) * demandCores,
  };
  const at = (factor: number): Outcome => {
    const rateBytesPerSec = hypothesis.rateBytesPerSec * factor;
    const outcome = playForward(from, { ...hypothesis, rateBytesPerSec }, plan, limitMs);
    return outcome.ends ? outcome : { ...outcome, ...stopped };
  };
  const [calm, slow, hot] = [at(1 - RATE_ERROR), at(1), at(1 + RATE_ERROR)];
  const mid = sooner(slow, usualMs, demandCores);
  const late = BURST_MS + HANDOVER_LATE_MS;

  const soonest = calm.totalMs * (1 - TIME_ERROR) - BURST_MS;
  const totalMs: Spread = [
    Math.max(HANDOVER_LEAST_MS, soonest - savedMs(calm, usualMs, SWITCHOVER_SPEEDUP.most)),
    mid.totalMs,
    Math.min(limitMs, hot.totalMs * (1 + TIME_ERROR) + late),
  ];
  const inTime = (outcome: Outcome, ms: number) => outcome.ends && ms <= maxTimeLeftMs;
  return {
    weight: hypothesis.weight,
    totalMs,
    downtimeMs: downtime(calm, slow, hot, usualMs),
    transferredBytes: [
      calm.transferredBytes * (1 - TIME_ERROR),
      mid.transferredBytes,
      hot.transferredBytes * (1 + TIME_ERROR) + (BURST_MS / 1_000) * Math.max(0, from.bandwidthBytesPerSec),
    ],
    harmCpuMs: [
      Math.max(0, calm.harmCpuMs * (1 - TIME_ERROR) - BURST_MS * slowed - calm.downtimeMs * demandCores * 0.9),
      mid.harmCpuMs,
      hot.harmCpuMs * (1 + TIME_ERROR) + BURST_MS * slowed + HANDOVER_LATE_MS * demandCores,
    ],
    meanShare: mid.meanShare,
    inTime:
      (inTime(calm, Math.max(HANDOVER_LEAST_MS, soonest)) ? EXTREME : 0) +
      (inTime(mid, slow.totalMs) ? 1 - 2 * EXTREME : 0) +
      (inTime(hot, totalMs[2]) ? EXTREME : 0),
  };
}

/** With its last bytes sent as fast as is usual, not as slowly as all before. */
function sooner(outcome: Outcome, handoverMs: number, demandCores: number): Outcome {
  if (!outcome.ends) return outcome;
  const saved = savedMs(outcome, handoverMs, SWITCHOVER_SPEEDUP.usual);
  return {
    ...outcome,
    totalMs: outcome.totalMs - saved,
    downtimeMs: outcome.downtimeMs - saved,
    harmCpuMs: outcome.harmCpuMs - saved * demandCores,
  };
}

/** What it takes less when the last bytes are sent that much faster. */
function savedMs(outcome: Outcome, handoverMs: number, speedup: number): number {
  return outcome.ends ? sendingMs(outcome, handoverMs) * (1 - 1 / speedup) : 0;
}

/** Of a downtime, what the last bytes take. */
function sendingMs({ downtimeMs }: Outcome, handoverMs: number): number {
  return Math.max(0, downtimeMs - handoverMs);
}

/** The last bytes may go faster than all before, and the handover take longer. */
function downtime(calm: Outcome, slow: Outcome, hot: Outcome, handoverMs: number): Spread {
  const all = [calm, slow, hot];
  return [
    HANDOVER_LEAST_MS + Math.min(...all.map((one) => sendingMs(one, handoverMs))) / SWITCHOVER_SPEEDUP.most,
    slow.ends ? handoverMs + sendingMs(slow, handoverMs) / SWITCHOVER_SPEEDUP.usual : slow.downtimeMs,
    Math.max(...all.map(({ downtimeMs }) => downtimeMs)) + HANDOVER_LATE_MS,
  ];
}

/** Weighted median, and 5% and 95% quantiles. */
function interval(played: readonly Played[], figure: (one: Played) => Spread): Interval {
  const points = played
    .flatMap((one) => {
      const [low, mid, high] = figure(one);
      return [
        { at: low, weight: one.weight * EXTREME },
        { at: mid, weight: one.weight * (1 - 2 * EXTREME) },
        { at: high, weight: one.weight * EXTREME },
      ];
    })
    .sort((one, other) => one.at - other.at);
  const all = points.reduce((sum, { weight }) => sum + weight, 0);
  const quantile = (q: number): number => {
    let below = 0;
    for (const { at, weight } of points) {
      below += weight;
      if (below >= q * all) return at;
    }
    return points.at(-1)?.at ?? 0;
  };
  return { value: quantile(0.5), low: quantile(TAIL), high: quantile(1 - TAIL) };
}

function within(low: number, value: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
