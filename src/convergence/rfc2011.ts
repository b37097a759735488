/**
 * The controller of the 2011 RFC ("[RFC] Migration convergence - a suggestion", Ronen Hod, qemu-devel, December 2011), to
 * the letter, kept as a baseline under the name `rfc2011`. The whole of it:
 *
 *     minGuestCpu = migrationRate / dirtyRate * guestCpu        a running average
 *     targetShare = (1 - aggression) * minGuestCpu              within [minCpuShare, 1]
 *
 * recomputed at every tick, with two running checks (more is migrated than dirtied: recently, and in total), the longest
 * stall as downtime limit, and at the max time what the policy says: an abort, post-copy, or the guest stalled altogether.
 *
 * Its known limit is kept too: it believes the dirty rate that the hypervisor reports. For a guest whose working set fits
 * into a pass that is about the transfer rate, whatever the share; the formula then sees an equilibrium, and at aggression
 * 0 such a migration never ends. Models and predictions are other controllers' business.
 */
import type { Reason } from '../domain/errors.ts';
import type { Policy } from '../domain/policy.ts';
import { formatDuration, formatRate, formatShare, formatSize } from '../domain/units.ts';
import type { Controller, ConvergenceAction, ConvergenceSample, Decision, Relaxation } from './controller.ts';

/**
 * What "recent" and "running average" mean, in fleet time. The RFC gives no number. Shorter than a few ticks it is no
 * average; longer than the passes at the end of a migration (one or two seconds) it holds the throttle where an earlier
 * pass put it. Erring long costs the guest some seconds at a share that it no longer needs.
 */
export const WINDOW_MS = 5_000;
/** However fast the ticks: the state stays small, for it may be kept. */
const MAX_WINDOW_SAMPLES = 64;

/** One usable sample, as the averages need it. */
interface Observation {
  readonly atMs: number;
  readonly rate: number;
  readonly dirtyRate: number;
  readonly guestCpu: number;
}

/** Running sums since the controller first looked, at one moment. */
interface Totals {
  readonly atMs: number;
  readonly migratedBytes: number;
  readonly dirtiedBytes: number;
}

export interface Rfc2011State {
  /** The last target that rested on evidence; what garbage leaves in force. */
  readonly targetShare: number;
  /** Smallest target so far: what an abort says was tried. */
  readonly lowestShare: number;
  readonly recent: readonly Observation[];
  readonly totals: readonly Totals[];
  /** Bytes transferred when the controller first looked: it may take over from one that died. */
  readonly transferredAtFirst: number | null;
  readonly pass: PassCpu;
}

/**
 * CPU that the guest got in this pass and in the last one. The hypervisor's dirty rate is of the last whole pass, so it
 * goes with the CPU of that pass: paired with this tick's, every throttling would look like a reason for more of it.
 */
interface PassCpu {
  readonly number: number;
  readonly sum: number;
  readonly samples: number;
  readonly before: number | undefined;
}

export const rfc2011: Controller<Rfc2011State> = {
  name: 'rfc2011',

  start(policy: Policy): Rfc2011State {
    // Before there is a dirty rate nothing says that the guest must be slowed; only aggression 1 means stalled regardless.
    const targetShare = policy.aggression >= 1 ? floorOf(policy) : 1;
    return {
      targetShare,
      lowestShare: targetShare,
      recent: [],
      totals: [],
      transferredAtFirst: null,
      pass: { number: 0, sum: 0, samples: 0, before: undefined },
    };
  },

  decide(state: Rfc2011State, sample: ConvergenceSample, policy: Policy): Decision<Rfc2011State> {
    const elapsedMs = sample.atMs - sample.startedAtMs;
    if (elapsedMs > policy.maxTimeMs) return atDeadline(state, sample, policy, elapsedMs);

    const seen = observe(state, sample);
    const average = minGuestCpu(seen.recent);
    const targetShare =
      average === undefined || !seen.fresh
        ? seen.targetShare
        : clamp((1 - policy.aggression) * average, floorOf(policy), 1);
    const next: Rfc2011State = {
      targetShare,
      lowestShare: Math.min(seen.lowestShare, targetShare),
      recent: seen.recent,
      totals: seen.totals,
      transferredAtFirst: seen.transferredAtFirst,
      pass: seen.pass,
    };
    return decided(run(targetShare, policy), explain(next, average, seen.fresh, policy), next);
  },
};

/** It predicts nothing, and measures nothing that another controller could use. */
function decided(
  action: ConvergenceAction,
  reason: string,
  next: Rfc2011State,
  relaxed: readonly Relaxation[] = [],
): Decision<Rfc2011State> {
  return { action, reason, next, relaxed, prediction: null, evidence: [], notes: [] };
}

function run(share: number, policy: Policy): ConvergenceAction {
  const { maxStallMs, maxBandwidthBytesPerSec } = policy;
  return { kind: 'run', share, maxStallMs, lookAgainMs: null, maxBandwidthBytesPerSec };
}

function floorOf(policy: Policy): number {
  return clamp(policy.minCpuShare, 0, 1);
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

/** A rate, a size or a share that a hypervisor can mean; sums of a window of them stay finite. */
function isSane(value: number): boolean {
  return Number.isFinite(value) && value > 0 && value <= Number.MAX_SAFE_INTEGER;
}

/** The state with what this sample tells; `fresh` when the formula can use it. */
function observe(state: Rfc2011State, sample: ConvergenceSample): Rfc2011State & { readonly fresh: boolean } {
  const last = state.totals.at(-1);
  // Time that stands still or runs backwards would make rates of nothing.
  if (!Number.isFinite(sample.atMs) || (last !== undefined && sample.atMs <= last.atMs))
    return { ...state, fresh: false };

  const pass = followPass(state.pass, sample);
  // Taken over in the middle of a migration, there is no pass before: this tick's CPU is the nearest thing known.
  const guestCpu = pass.before ?? (sample.pass > 1 ? cpuIn(sample) : undefined);
  const fresh = isSane(sample.rateBytesPerSec) && isSane(sample.dirtyRateBytesPerSec) && guestCpu !== undefined;
  const from = sample.atMs - WINDOW_MS;
  const recent = state.recent.filter(({ atMs }) => atMs > from);
  if (fresh) {
    recent.push({ atMs: sample.atMs, rate: sample.rateBytesPerSec, dirtyRate: sample.dirtyRateBytesPerSec, guestCpu });
  }

  const transferred =
    sample.transferredBytes === 0 || isSane(sample.transferredBytes) ? sample.transferredBytes : undefined;
  const transferredAtFirst = state.transferredAtFirst ?? transferred ?? null;
  const sinceFirst = transferred === undefined ? 0 : transferred - (transferredAtFirst ?? 0);
  const passedMs = last === undefined ? 0 : sample.atMs - last.atMs;
  const dirtied = isSane(sample.dirtyRateBytesPerSec) ? (sample.dirtyRateBytesPerSec * passedMs) / 1_000 : 0;
  // The last one stays whatever its age: with ticks longer than the window "recent" is since the last tick.
  const totals = state.totals.filter((each) => each.atMs > from || each === last);
  totals.push({
    atMs: sample.atMs,
    migratedBytes: Math.max(last?.migratedBytes ?? 0, sinceFirst),
    dirtiedBytes: (last?.dirtiedBytes ?? 0) + dirtied,
  });
  return {
    ...state,
    recent: recent.slice(-MAX_WINDOW_SAMPLES),
    totals: totals.slice(-MAX_WINDOW_SAMPLES),
    transferredAtFirst,
    pass,
    fresh,
  };
}

function cpuIn({ gotShare }: ConvergenceSample): number | undefined {
  return isSane(gotShare) ? Math.min(1, gotShare) : undefined;
}

function followPass(pass: PassCpu, sample: ConvergenceSample): PassCpu {
  if (!Number.isFinite(sample.pass)) return pass;
  // Also at the first tick of a pass: it tells of CPU that was mostly got in the pass before.
  const got = cpuIn(sample);
  const sum = pass.sum + (got ?? 0);
  const samples = pass.samples + (got === undefined ? 0 : 1);
  if (sample.pass === pass.number) return { ...pass, sum, samples };
  // The first pass of all has none before it.
  const before = pass.number === 0 || samples === 0 ? pass.before : sum / samples;
  return { number: sample.pass, sum: 0, samples: 0, before };
}

/** The RFC's formula over the window: the averages of its three parts, so that one tick with a tiny dirty rate is one tick. */
function minGuestCpu(recent: readonly Observation[]): number | undefined {
  if (recent.length === 0) return undefined;
  const mean = (pick: (observation: Observation) => number) =>
    recent.reduce((sum, each) => sum + pick(each), 0) / recent.length;
  const value = (mean(({ rate }) => rate) / mean(({ dirtyRate }) => dirtyRate)) * mean(({ guestCpu }) => guestCpu);
  return Number.isFinite(value) ? value : undefined;
}

function explain(state: Rfc2011State, average: number | undefined, fresh: boolean, policy: Policy): string {
  const checks = `more migrated than dirtied: recently ${recentCheck(state)}, in total ${totalCheck(state)}`;
  const share = `share ${formatShare(state.targetShare)}`;
  if (average === undefined) {
    const why = policy.aggression >= 1 ? 'aggression 1 stalls the guest to its floor' : 'no dirty rate yet';
    return `${share}: ${why}; ${checks}`;
  }
  if (!fresh) return `${share}: kept, the last sample says nothing; ${checks}`;
  const wanted = (1 - policy.aggression) * average;
  const bound =
    wanted > 1
      ? ', unthrottled'
      : wanted < policy.minCpuShare
        ? `, held at the floor ${formatShare(policy.minCpuShare)}`
        : '';
  return `${share}: the transfer keeps up with ${average > 10 ? 'any share' : formatShare(average)}, aggression ${policy.aggression}${bound}; ${checks}`;
}

function recentCheck({ totals }: Rfc2011State): string {
  const first = totals[0];
  const last = totals.at(-1);
  if (first === undefined || last === undefined || first === last) return 'not known yet';
  return yesOrNo(last.migratedBytes - first.migratedBytes, last.dirtiedBytes - first.dirtiedBytes);
}

function totalCheck({ totals }: Rfc2011State): string {
  const last = totals.at(-1);
  return last === undefined || totals.length < 2 ? 'not known yet' : yesOrNo(last.migratedBytes, last.dirtiedBytes);
}

function yesOrNo(migrated: number, dirtied: number): string {
  return `${migrated > dirtied ? 'yes' : 'no'} (${formatSize(migrated)} against ${formatSize(dirtied)})`;
}

function atDeadline(
  state: Rfc2011State,
  sample: ConvergenceSample,
  policy: Policy,
  elapsedMs: number,
): Decision<Rfc2011State> {
  const left = `${formatSize(sample.remainingBytes)} remained in pass ${sample.pass} after ${formatSize(sample.transferredBytes)} were sent`;
  const rates = `it dirties ${formatRate(sample.dirtyRateBytesPerSec)} at share ${formatShare(sample.share)} and ${formatRate(sample.rateBytesPerSec)} are sent`;
  const atFloor = state.lowestShare <= floorOf(policy);
  const tried = `tried: aggression ${policy.aggression}, share down to ${formatShare(state.lowestShare)}${atFloor ? ' (the floor)' : ''}, stall limit ${formatDuration(policy.maxStallMs)}`;
  const changes = [
    ...(!atFloor && policy.aggression < 1 ? ['raise the aggression'] : []),
    ...(atFloor && policy.minCpuShare > 0 ? ['lower the min CPU'] : []),
    `allow more than ${formatDuration(policy.maxTimeMs)} (max time)`,
    `allow a longer stall`,
    `give it more than ${formatRate(sample.grantBytesPerSec)}`,
  ];
  const message = `not converged after ${formatDuration(elapsedMs)} (max time ${formatDuration(policy.maxTimeMs)}): ${left}; ${rates}; ${tried}. To change that: ${changes.join(', or ')}`;
  const reason: Reason = { code: 'maxTimeExceeded', message };
  if (policy.atDeadline !== 'forceComplete') return decided({ kind: policy.atDeadline, reason }, message, state);
  const relaxed: Relaxation[] = [{ requirement: 'maxTime', why: message }];
  if (policy.minCpuShare > 0) relaxed.push({ requirement: 'minCpu', why: 'it is forced to its end at the max time' });
  return decided(run(0, policy), `share 0%: forced to its end; ${message}`, state, relaxed);
}
