/**
 * What each aggression would cost a guest that is not migrated yet, by what is known of it now: what the policy would choose
 * at the start, what that is predicted to come to, and which requirements it would break. Pure.
 */
import type { Policy } from '../domain/policy.ts';
import type { Prediction } from '../domain/prediction.ts';
import { formatDuration, formatRate, formatShare } from '../domain/units.ts';
import { FREE, Outlook, SURE, sharesDownTo } from './candidates.ts';
import { chosen } from './choosing.ts';
import type { Relaxation } from './controller.ts';
import type { DirtyModel, GuestFacts } from './dirty-model.ts';
import { downtimeLimit } from './downtime.ts';
import type { Standing, ThrottlePlan } from './forward.ts';
import { hasGivenWay, NO_CONFLICT, type Settled, settle } from './infeasible.ts';
import type { Candidate, PolicyBehaviour } from './policy-behaviour.ts';
import { leastFrom } from './reference.ts';

export interface WhatIfQuestion {
  readonly model: DirtyModel;
  readonly guest: GuestFacts;
  readonly policy: Policy;
  readonly behaviour: PolicyBehaviour;
  /** What it would be sent with if the policy had no cap. */
  readonly pathBytesPerSec: number;
  /** False: nothing is known of the guest, or it changes its ways; then the max time does not give way before its end. */
  readonly certain: boolean;
  /** As `PolicyView.othersWait`. Default: nobody does. */
  readonly othersWait?: boolean;
}

export interface WhatIfRow extends ThrottlePlan {
  /** null: nobody throttles it, whatever comes of that. */
  readonly aggression: number | null;
  /** The aggression that the policy has. */
  readonly chosen: boolean;
  readonly prediction: Prediction;
  /** 0..1: how likely it is to end within the max time. */
  readonly endsInTime: number;
  /** What of the policy it would not keep; empty: it keeps all. */
  readonly breaks: readonly Relaxation[];
  readonly why: string;
}

export interface WhatIf {
  /** Without a throttle first, then by ascending aggression: 0, 0.1 .. 1, and the policy's own. */
  readonly rows: readonly WhatIfRow[];
  /** What would give way because nothing that is allowed ends in time. */
  readonly relaxed: readonly Relaxation[];
  /** Not null: it would be known at once that it cannot end in time, for that reason; the policy says what is done then. */
  readonly givesUp: string | null;
  /** What was assumed: the path's, or the policy's cap as long as that does not give way. */
  readonly bandwidthBytesPerSec: number;
}

const STEPS = 10;
/** Enough looks for all that may give way to do so, one after the other. */
const LOOKS = 12;

export function whatIf(question: WhatIfQuestion): WhatIf {
  const { model, policy, behaviour } = question;
  const { settled, from } = settledAtStart(question);
  const { candidates } = settled;
  const least = candidates.reduce((low, { share }) => Math.min(low, share), 1);
  const timeLeftMs = policy.maxTimeMs;
  const start = { from, atMs: 0, spentHarmCpuMs: 0 };
  const leastHarmCpuMs = leastFrom(start, model, sharesDownTo(least), 0, timeLeftMs);
  const row = (aggression: number | null, candidate: Candidate, why: string): WhatIfRow => ({
    aggression,
    chosen: aggression === policy.aggression,
    share: candidate.share,
    begins: candidate.begins,
    prediction: candidate.prediction,
    endsInTime: candidate.endsInTime,
    breaks: breaks(candidate, policy, settled),
    why,
  });
  const free = candidates.find(({ share }) => share >= FREE.share);
  const rows = aggressions(policy.aggression).map((aggression) => {
    const view = {
      policy: { ...policy, aggression },
      candidates,
      elapsedMs: 0,
      pass: from.pass,
      timeLeftMs,
      spentHarmCpuMs: 0,
      leastHarmCpuMs,
      share: 1,
      demandCores: from.guest.demandCores,
      othersWait: question.othersWait === true,
    };
    const { choice, fault } = chosen(behaviour, view);
    return row(aggression, choice.candidate, fault ?? choice.why);
  });
  return {
    rows: [...(free === undefined ? [] : [row(null, free, 'it runs free')]), ...rows],
    relaxed: settled.conflict.relaxed,
    givesUp: settled.givesUp,
    bandwidthBytesPerSec: from.bandwidthBytesPerSec,
  };
}

function aggressions(own: number): number[] {
  const steps = Array.from({ length: STEPS + 1 }, (_, step) => step / STEPS);
  return [...new Set([...steps, own])].sort((a, b) => a - b);
}

/** As the controller would settle it in its first looks. */
function settledAtStart(question: WhatIfQuestion): { readonly settled: Settled; readonly from: Standing } {
  const { policy, model, certain } = question;
  let settled: Settled | null = null;
  let from = standingBefore(question, policy.maxBandwidthBytesPerSec);
  for (let look = 0; look < LOOKS; look += 1) {
    const before = settled?.conflict ?? NO_CONFLICT;
    from = standingBefore(question, hasGivenWay(before, 'maxBandwidth') ? null : policy.maxBandwidthBytesPerSec);
    const outlook = new Outlook(from, model, policy.maxTimeMs);
    const timeLeftMs = policy.maxTimeMs;
    const next = settle(before, { policy, model, from, outlook, timeLeftMs, share: 1, certain, atOnce: true });
    settled = next;
    const asBefore = next.conflict.looks === before.looks && next.conflict.relaxed.length === before.relaxed.length;
    if (next.givesUp !== null || asBefore) break;
  }
  if (settled === null) throw new RangeError('no look was made');
  return { settled, from };
}

function standingBefore({ guest, policy, pathBytesPerSec }: WhatIfQuestion, cap: number | null): Standing {
  return {
    pass: 0,
    leftBytes: guest.touchedBytes,
    cpuMsInPass: 0,
    passElapsedMs: 0,
    bandwidthBytesPerSec: Math.min(pathBytesPerSec, cap ?? Number.POSITIVE_INFINITY),
    downtimeLimitMs: downtimeLimit(policy.maxStallMs, guest.handoverMs),
    guest,
  };
}

function breaks(candidate: Candidate, policy: Policy, { conflict }: Settled): Relaxation[] {
  const { share, endsInTime, prediction } = candidate;
  const broken: Relaxation[] = [];
  if (endsInTime < SURE) {
    const limit = formatDuration(policy.maxTimeMs);
    const why =
      endsInTime < 0.05 ? `no end within ${limit}` : `ends within ${limit} only ${formatShare(endsInTime)} sure`;
    broken.push({ requirement: 'maxTime', why });
  }
  if (share < policy.minCpuShare) {
    broken.push({ requirement: 'minCpu', why: `${formatShare(share)} is below ${formatShare(policy.minCpuShare)}` });
  }
  if (prediction.downtimeMs.value > policy.maxStallMs) {
    const [stall, limit] = [prediction.downtimeMs.value, policy.maxStallMs].map(formatDuration);
    broken.push({ requirement: 'maxStall', why: `${stall} is more than ${limit}` });
  }
  const cap = policy.maxBandwidthBytesPerSec;
  if (cap !== null && hasGivenWay(conflict, 'maxBandwidth')) {
    broken.push({ requirement: 'maxBandwidth', why: `${formatRate(cap)} is dropped` });
  }
  return broken;
}
