/**
 * The controller that decides by a model of the guest. Each tick: what the sample tells (tracking.ts), what the guest is
 * believed to be (fit.ts), what could be done and what it would cost (candidates.ts), what gives way if nothing that is
 * allowed ends in time (infeasible.ts), and of the rest what the policy chooses (policies/). It keeps the requirements
 * itself: a policy chooses among what they allow. A sample that cannot be changes no decision.
 */
import type { Policy } from '../domain/policy.ts';
import type { DirtyWindow, Prediction } from '../domain/prediction.ts';
import { formatDuration } from '../domain/units.ts';
import { adviceFor } from './advice.ts';
import { CALM_PART, type Calm, predictedSince, staysCalm } from './calm.ts';
import { Outlook, SURE, sharesDownTo } from './candidates.ts';
import { chosen } from './choosing.ts';
import type { Controller, ConvergenceAction, ConvergenceSample, Decision, Relaxation } from './controller.ts';
import type { DirtyModel } from './dirty-model.ts';
import { downtimeLimit } from './downtime.ts';
import { describeRates, explainChoice } from './explain.ts';
import { fitDirtyModel } from './fit.ts';
import { forced } from './forcing.ts';
import { passEndsInMs, type Standing } from './forward.ts';
import { compactEvidence } from './history.ts';
import { type Conflict, floorOf, hasGivenWay, NO_CONFLICT, settle } from './infeasible.ts';
import { isSurprised } from './measuring.ts';
import { behaviourOf } from './policies/behaviours.ts';
import type { Candidate, PolicyBehaviour, PolicyView } from './policy-behaviour.ts';
import { isStill, type KnownLeast, leastFrom, type Reference } from './reference.ts';
import { standing, startTracking, type Tracked, track } from './tracking.ts';

/** Looks while it matters when: near the end of a pass, and while the guest is slowed. */
const SHORTEST_LOOK_MS = 100;
const LONGEST_LOOK_MS = 300;
/** The loop's shortest tick. */
const SHORTEST_LEAD_LOOK_MS = 50;
/** A pass that ends within the next tick is waited for. */
const TICK_MS = 1_000;
/** Evidence fades slowly: without news it is weighed again only so often; and what a few looks add is weighed together. */
const REFIT_MS = 2_000;
/** Of one that runs free and surely ends in time, as long as nothing surprises. */
const REFIT_CALM_MS = 10_000;
const REFIT_NEWS_MS = 500;
/** After so many looks that saw no way (1.5 s) the next ones are not urgent: most of what can be known is known by then. */
const URGENT_LOOKS = 15;
/** With less hope than that a plan is not watched closely. */
const HOPELESS = 0.05;
/** So many samples in a row that cannot be, and only the clock is still believed. */
const BAD_UNTIL_CLOCK = 5;
/** A guest that has not changed its ways again for so long is believed to keep to them. */
const CHANGE_FADES_MS = 30_000;

type Run = Extract<ConvergenceAction, { kind: 'run' }>;

interface Fitted {
  readonly model: DirtyModel;
  readonly atMs: number;
  readonly evidence: readonly DirtyWindow[];
}

export interface LeastHarmState {
  readonly tracked: Tracked;
  readonly evidence: readonly DirtyWindow[];
  /** What was made of it, when, and of how much; null: nothing yet. */
  readonly fitted: Fitted | null;
  readonly conflict: Conflict;
  /** Where throttling was first thought of; null: the guest has not been looked at. */
  readonly reference: Reference | null;
  readonly least: KnownLeast | null;
  readonly action: Run | null;
  readonly reason: string;
  readonly prediction: Prediction | null;
  /** The guest has changed its ways lately. */
  readonly changes: boolean;
  /** The last change that was told, and the policy's faults. */
  readonly changeAtMs: number | null;
  readonly blamed: boolean;
  /** The guest was to be slowed just before its pass ends; and whether such moments are still believed in. */
  readonly leads: boolean;
  readonly mayLead: boolean;
  /** Not null: it runs free and surely ends in time, so more of the same news changes nothing that would have to be done at once. */
  readonly calm: Calm | null;
  /** Since when it is held until all is sent: nothing ends that but the end. */
  readonly forcing: string | null;
}

/** `behaviours`: the user's own policies by name. Deciding throws `badInput` when the policy's name is not known. */
export function leastHarm(behaviours: ReadonlyMap<string, PolicyBehaviour>): Controller<LeastHarmState> {
  return {
    name: 'leastHarm',
    start: (_policy, { guest, evidence, nowMs }) => ({
      tracked: startTracking(guest),
      evidence: compactEvidence(evidence, nowMs),
      fitted: null,
      conflict: NO_CONFLICT,
      reference: null,
      least: null,
      action: null,
      reason: 'nothing has been seen yet',
      prediction: null,
      changes: false,
      changeAtMs: null,
      blamed: false,
      leads: false,
      mayLead: true,
      calm: null,
      forcing: null,
    }),
    decide: (state, sample, policy) => decide(state, sample, policy, behaviourOf(policy.name, behaviours)),
  };
}

interface Seen {
  readonly state: LeastHarmState;
  readonly sample: ConvergenceSample;
  readonly policy: Policy;
  readonly model: DirtyModel;
  readonly from: Standing;
  readonly timeLeftMs: number;
  readonly notes: readonly string[];
}

function decide(
  before: LeastHarmState,
  sample: ConvergenceSample,
  policy: Policy,
  behaviour: PolicyBehaviour,
): Decision<LeastHarmState> {
  const limitMs = downtimeLimit(before.action?.maxStallMs ?? policy.maxStallMs, before.tracked.guest.handoverMs);
  const known = before.fitted?.model;
  const tracking = track(before.tracked, sample, limitMs, {
    workingSetBytes: known?.workingSetBytes.value ?? null,
    pattern: known?.pattern ?? null,
    changedAtMs: known?.change?.atMs ?? null,
  });
  const tracked = tracking.next;
  const cap = hasGivenWay(before.conflict, 'maxBandwidth') ? null : policy.maxBandwidthBytesPerSec;
  const from = standing(tracked, limitMs, cap);
  if (from === null || (!tracking.sane && tracked.badInARow < BAD_UNTIL_CLOCK)) {
    return held({ ...before, tracked }, sample, policy, tracking.notes);
  }
  const nowMs = tracking.sane ? sample.atMs : (tracked.last?.atMs ?? sample.atMs);
  const elapsedMs = Math.max(0, (Number.isFinite(sample.atMs) ? sample.atMs : nowMs) - startedAtMs(tracked, sample));
  const timeLeftMs = policy.maxTimeMs - elapsedMs;
  const evidence =
    tracking.windows.length > 0 ? compactEvidence([...before.evidence, ...tracking.windows], nowMs) : before.evidence;
  const fitted =
    before.fitted !== null && !tracking.newPass && isFresh(before.fitted, before, evidence, { nowMs, timeLeftMs })
      ? before.fitted
      : { model: fitDirtyModel(evidence, tracked.guest, nowMs), atMs: nowMs, evidence };
  const { model } = fitted;
  const changed = model.change !== null && model.change.atMs !== before.changeAtMs;
  const changeAtMs = model.change?.atMs ?? before.changeAtMs;
  const notes = [...tracking.notes, ...(changed && model.change !== null ? [model.change.what] : [])];
  const state: LeastHarmState = {
    ...before,
    tracked,
    evidence,
    fitted,
    changes: changeAtMs !== null && nowMs - changeAtMs < CHANGE_FADES_MS,
    changeAtMs,
    // A pass that has begun without it: looks come too late for that here, and to wait for the next one would go on for ever.
    mayLead: before.mayLead && !(before.leads && tracking.newPass),
  };
  const seen: Seen = { state, sample: tracked.last ?? sample, policy, model, from, timeLeftMs, notes };
  if (state.forcing !== null) return force(seen, state.forcing);
  if (timeLeftMs <= 0) {
    return giveUp(seen, `not ended after ${formatDuration(elapsedMs)} (max time ${formatDuration(policy.maxTimeMs)})`);
  }
  // The clock went on, nothing else is known to have.
  if (!tracking.sane) return held(state, sample, policy, notes);
  const { calm, action, conflict } = before;
  if (calm !== null && action !== null && conflict.looks === 0 && fitted === before.fitted) {
    const { othersWait = false, transferredBytes } = sample;
    if (staysCalm(calm, { nowMs, timeLeftMs, from, othersWait, transferredBytes })) {
      return decided(state, action, before.reason, predictedSince(calm, nowMs, transferredBytes), notes);
    }
  }
  return choose(seen, elapsedMs, behaviour);
}

function isFresh(
  { atMs, evidence: fitted }: Fitted,
  { conflict: { looks }, calm }: Pick<LeastHarmState, 'conflict' | 'calm'>,
  evidence: readonly DirtyWindow[],
  { nowMs, timeLeftMs }: { readonly nowMs: number; readonly timeLeftMs: number },
): boolean {
  const surprised = isSurprised(evidence, nowMs);
  if (calm !== null && !surprised) {
    const soon = Math.max(REFIT_MS, CALM_PART * timeLeftMs);
    return nowMs - atMs < Math.min(REFIT_CALM_MS, soon);
  }
  if (evidence === fitted) return nowMs - atMs < REFIT_MS;
  // Where something is about to give way, all that is known counts.
  return nowMs - atMs < REFIT_NEWS_MS && !isUrgent(looks);
}

function isUrgent(looks: number): boolean {
  return looks > 0 && looks <= URGENT_LOOKS;
}

function startedAtMs({ last }: Tracked, sample: ConvergenceSample): number {
  return last?.startedAtMs ?? sample.startedAtMs;
}

/** The last decision again; before the first one, what is in force, as far as the policy allows it. */
function held(
  state: LeastHarmState,
  sample: ConvergenceSample,
  policy: Policy,
  notes: readonly string[],
): Decision<LeastHarmState> {
  const share = Math.max(floorOf(policy), inForce(state, sample));
  const action = state.action ?? run(policy, share, policy.maxStallMs, null, state.conflict);
  return decided(state, action, state.reason, state.prediction, notes);
}

/** The share that the guest is held to now: what was decided last; at first what a predecessor left. 0..1. */
function inForce({ action }: LeastHarmState, { share }: ConvergenceSample): number {
  if (action !== null) return action.share;
  return share > 0 && share < 1 ? share : 1;
}

function run(policy: Policy, share: number, maxStallMs: number, lookAgainMs: number | null, conflict: Conflict): Run {
  const cap = hasGivenWay(conflict, 'maxBandwidth') ? null : policy.maxBandwidthBytesPerSec;
  return { kind: 'run', share, maxStallMs, lookAgainMs, maxBandwidthBytesPerSec: cap };
}

function decided(
  state: LeastHarmState,
  action: ConvergenceAction,
  reason: string,
  prediction: Prediction | null,
  notes: readonly string[],
): Decision<LeastHarmState> {
  const next = { ...state, action: action.kind === 'run' ? action : state.action, reason, prediction };
  const { relaxed } = state.conflict;
  return { action, reason, next, relaxed, prediction, evidence: state.evidence, notes };
}

/** What the policy says for its deadline, at the deadline or before. */
function giveUp(seen: Seen, why: string): Decision<LeastHarmState> {
  const { state, sample, policy, model, from, timeLeftMs, notes } = seen;
  if (policy.atDeadline === 'forceComplete') return force(seen, why);
  if (policy.atDeadline === 'postCopy' && sample.pass <= 1 && timeLeftMs > 0) {
    // What is there already the guest need not wait for: memory that it does not write is sent first.
    const toEndMs = from.bandwidthBytesPerSec > 0 ? (from.leftBytes / from.bandwidthBytesPerSec) * 1_000 : TICK_MS;
    const lookMs = Math.round(Math.max(SHORTEST_LOOK_MS, Math.min(TICK_MS, toEndMs, timeLeftMs)));
    const reason = `100%: goes on in post-copy when all has been sent once: ${why}`;
    return decided(state, run(policy, 1, policy.maxStallMs, lookMs, state.conflict), reason, null, notes);
  }
  const message = `${why}; ${describeRates(model, from)}; ${adviceFor(policy, model, from)}`;
  return decided(
    state,
    { kind: policy.atDeadline, reason: { code: 'maxTimeExceeded', message } },
    message,
    null,
    notes,
  );
}

function force(seen: Seen, why: string): Decision<LeastHarmState> {
  const { state, policy, model, from, timeLeftMs, notes } = seen;
  const stallMs = state.action?.maxStallMs ?? policy.maxStallMs;
  const { candidate, maxStallMs, relaxed } = forced(from, model, policy, { stallMs, timeLeftMs, why });
  const conflict = { ...state.conflict, relaxed: withThese(state.conflict.relaxed, relaxed) };
  const action = run(policy, candidate.share, maxStallMs, SHORTEST_LOOK_MS, conflict);
  const reason = explainChoice(candidate, `held until all is sent: ${why}`, model, from);
  return decided({ ...state, conflict, forcing: why, calm: null }, action, reason, candidate.prediction, notes);
}

/** What gave way once keeps its first reason. */
function withThese(before: readonly Relaxation[], more: readonly Relaxation[]): readonly Relaxation[] {
  const known = new Set(before.map(({ requirement }) => requirement));
  return [...before, ...more.filter(({ requirement }) => !known.has(requirement))];
}

function choose(seen: Seen, elapsedMs: number, behaviour: PolicyBehaviour): Decision<LeastHarmState> {
  const { sample, policy, model, from, timeLeftMs } = seen;
  const outlook = new Outlook(from, model, timeLeftMs, { mayLead: seen.state.mayLead });
  const share = inForce(seen.state, sample);
  const spentHarmCpuMs = Number.isFinite(sample.harmCpuMs) ? Math.max(0, sample.harmCpuMs) : 0;
  const certain = !seen.state.changes && seen.state.evidence.some(({ source }) => source !== 'history');
  const settled = settle(seen.state.conflict, {
    policy,
    model,
    from,
    outlook,
    share,
    spentHarmCpuMs,
    timeLeftMs,
    certain,
  });
  const state = { ...seen.state, conflict: settled.conflict };
  if (settled.givesUp !== null) return giveUp({ ...seen, state }, settled.givesUp);

  const changedSince = model.change !== null && model.change.atMs > (state.reference?.atMs ?? 0);
  const reference: Reference =
    state.reference === null || share >= 1 || changedSince
      ? { from, atMs: sample.atMs, spentHarmCpuMs }
      : state.reference;
  const least = settled.candidates.reduce((low, candidate) => Math.min(low, candidate.share), 1);
  const shares = sharesDownTo(least);
  const asked = { reference, model, share: least, endsAtMs: sample.startedAtMs + policy.maxTimeMs };
  const played = reference.from === from ? outlook : null;
  const known: KnownLeast = isStill(state.least, asked)
    ? state.least
    : { ...asked, cpuMs: leastFrom(reference, model, shares, sample.atMs, timeLeftMs, played) };
  const view: PolicyView = {
    policy,
    candidates: settled.candidates,
    elapsedMs,
    pass: from.pass,
    timeLeftMs,
    spentHarmCpuMs,
    leastHarmCpuMs: known.cpuMs,
    share,
    demandCores: from.guest.demandCores,
    othersWait: sample.othersWait === true,
  };
  const { choice, fault } = chosen(behaviour, view);
  const notes = fault === null || state.blamed ? seen.notes : [...seen.notes, fault];
  const { candidate, why } = choice;
  const slowsNow = beginsNow(from, candidate);
  const slows = slowsNow ? candidate.share : 1;
  const lookMs = lookAgainAfter(state, from, candidate);
  const lastLookMs = timeLeftMs <= TICK_MS ? Math.max(SHORTEST_LOOK_MS, Math.ceil(timeLeftMs)) : null;
  const lookAgainMs = lookMs === null || lastLookMs === null ? (lookMs ?? lastLookMs) : Math.min(lookMs, lastLookMs);
  const action = run(policy, slows, policy.maxStallMs, lookAgainMs, state.conflict);
  const leads = !slowsNow && (candidate.leadMs ?? 0) > 0;
  const calm = candidate.share >= 1 && candidate.endsInTime >= SURE ? calmAt(sample, from, candidate.prediction) : null;
  const next = { ...state, reference, least: known, blamed: state.blamed || fault !== null, leads, calm };
  const done: Candidate = slowsNow ? { ...candidate, begins: 'now' } : candidate;
  return decided(next, action, explainChoice(done, why, model, from), candidate.prediction, notes);
}

function calmAt(sample: ConvergenceSample, from: Standing, prediction: Prediction): Calm {
  const { atMs, transferredBytes, othersWait = false } = sample;
  const { bandwidthBytesPerSec, guest } = from;
  return { atMs, transferredBytes, othersWait, bandwidthBytesPerSec, demandCores: guest.demandCores, prediction };
}

/** Also what is to be in force when the next pass begins, shortly before it does. */
function beginsNow(from: Standing, { begins, leadMs = 0 }: Candidate): boolean {
  return begins === 'now' || (leadMs > 0 && passEndsInMs(from) <= leadMs);
}

/** null: at the next tick. */
function lookAgainAfter({ conflict }: LeastHarmState, from: Standing, candidate: Candidate): number | null {
  // Whether it can be done at all is to be known soon; not for ever, where all that is left is to wait.
  if (isUrgent(conflict.looks)) return SHORTEST_LOOK_MS;
  if (conflict.looks > 0 && (candidate.share >= 1 || candidate.endsInTime < HOPELESS)) return TICK_MS;
  return candidate.share < 1 ? nextLookMs(from, candidate) : null;
}

/** When to look again: near the end of the pass, and often while it matters. */
function nextLookMs(from: Standing, plan: Candidate): number | null {
  const { leadMs = 0 } = plan;
  if (plan.begins === 'nextPass' && leadMs > 0) {
    // In time, and not much too early.
    const beginsMs = Math.ceil(passEndsInMs(from) - leadMs);
    return beginsMs > TICK_MS ? null : Math.max(SHORTEST_LEAD_LOOK_MS, beginsMs <= 0 ? SHORTEST_LOOK_MS : beginsMs);
  }
  const toEndMs = from.bandwidthBytesPerSec > 0 ? (from.leftBytes / from.bandwidthBytesPerSec) * 1_000 : TICK_MS;
  if (plan.begins === 'nextPass' && toEndMs > TICK_MS + LONGEST_LOOK_MS) return null;
  return Math.round(Math.min(LONGEST_LOOK_MS, Math.max(SHORTEST_LOOK_MS, toEndMs)));
}
