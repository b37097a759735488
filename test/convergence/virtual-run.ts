/**
 * One migration of one simulated guest, driven by a controller in virtual time, as src/migration does it: looks at its
 * dirtying first (if asked), then samples at every tick, sooner where the decision says so, and when a pass begins. No Redis,
 * no assertions. Same arguments, same run.
 */
import type { Controller, ConvergenceSample, Decision, Relaxation } from '../../src/convergence/controller.ts';
import type { GuestFacts, Pattern } from '../../src/convergence/dirty-model.ts';
import { dirtiedBytes } from '../../src/convergence/dirtying.ts';
import { downtimeLimit } from '../../src/convergence/downtime.ts';
import { nextLookWhileRunning, nextWindowMs } from '../../src/convergence/measuring.ts';
import { type Account, type MigrationFigures, NO_FIGURES } from '../../src/domain/operation.ts';
import type { Policy } from '../../src/domain/policy.ts';
import type { DirtyWindow, Prediction } from '../../src/domain/prediction.ts';
import type { DirtyingMeasured } from '../../src/hypervisors/hypervisor.ts';
import { dirtied } from '../../src/hypervisors/qemu/dirty-sampling.ts';
import { demandMs, passJitter, phaseAt } from '../../src/hypervisors/simulated/guest.ts';
import { chance } from '../../src/hypervisors/simulated/hash.ts';
import type { Guest, Migration } from '../../src/hypervisors/simulated/model.ts';
import { countersAt } from '../../src/hypervisors/simulated/passes.ts';
import { guestCpuOf, sampleOf } from '../../src/hypervisors/simulated/views.ts';
import { book, openAccount } from '../../src/migration/accounting.ts';
import type { GuestCpu } from '../../src/throttling/throttle.ts';
import { fleetOf, frozen, host, PureFleet, type VmInput } from '../hypervisors/simulated/fleets.ts';

const VM = 'vm';
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TICK_MS = 1_000;
/** As the loop's, and what passes between an event and the decision about it. */
const SHORTEST_TICK_MS = 50;
const LATENCY_MS = 15;
const LOOK_BUDGET_MS = 3_000;
const PAGES_PER_GIB = 16_384;

/** At random a guest finds what it has written already: so often its slope is set anew. */
const RANDOM_STEP_MS = 20;

export interface VirtualGuest {
  readonly pattern: Pattern;
  readonly rateBytesPerSec: number;
  readonly workingSetBytes: number;
  readonly touchedBytes: number;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** 0..1 of all its vCPUs. */
  readonly cpuUse: number;
  /** One after another, again and again; without: the same all the time. */
  readonly phases?: readonly {
    readonly durationMs: number;
    readonly rateBytesPerSec: number;
    readonly workingSetBytes?: number;
    readonly cpuUse?: number;
  }[];
}

export interface VirtualSetting {
  readonly guest: VirtualGuest;
  readonly controller: Controller<unknown>;
  readonly policy: Policy;
  /** What the budget gives, bytes/s; or that at so many ms since the start. */
  readonly grant: number | ((elapsedMs: number) => number);
  /** What the wire carries when the limit is off; 2.5 times what is granted at first. */
  readonly linkBytesPerSec?: number;
  readonly seed?: number;
  /** True: as before every migration. */
  readonly looksBefore?: boolean;
  /** Fleet time at which it all begins: in which phase. */
  readonly beginsAtMs?: number;
  /** No longer than this; twice the max time without. */
  readonly limitMs?: number;
}

export interface VirtualRun {
  /** `active`: still going on at the limit. */
  readonly ended: 'completed' | 'failed' | 'aborted' | 'postCopy' | 'active';
  /** In words, of an end that is no success. */
  readonly why: string | null;
  readonly totalMs: number;
  readonly downtimeMs: number;
  /** What the guest really did not get, from the start to the end, downtime included. */
  readonly harmCpuMs: number;
  readonly minShare: number;
  readonly meanShare: number;
  readonly bytes: number;
  /** Highest rate at which it was let send. */
  readonly mostBytesPerSec: number;
  readonly relaxed: readonly Relaxation[];
  readonly notes: readonly string[];
  readonly looks: readonly DirtyWindow[];
  readonly decisions: readonly VirtualDecision[];
  /** Of the first decision, when not a byte has been sent; null: it could not tell. */
  readonly predicted: Prediction | null;
}

export interface VirtualDecision {
  /** Since the start. */
  readonly atMs: number;
  readonly pass: number;
  readonly remainingBytes: number;
  readonly harmCpuMs: number;
  /** null: it was ended here. */
  readonly share: number | null;
  readonly maxStallMs: number | null;
  readonly reason: string;
  readonly prediction: Prediction | null;
}

export function virtualRun(setting: VirtualSetting): VirtualRun {
  return new Run(setting).play();
}

class Run {
  readonly #setting: VirtualSetting;
  readonly #fleet: PureFleet;
  readonly #seed: number;
  readonly #decisions: VirtualDecision[] = [];
  readonly #looks: DirtyWindow[] = [];
  readonly #notes: string[] = [];
  #relaxed: readonly Relaxation[] = [];
  #fresh: DirtyWindow[] = [];
  #look: { readonly endsAtMs: number; readonly windowMs: number; readonly before: GuestCpu } | null = null;
  #startedAtMs = 0;
  #startCpuMs = 0;
  #minShare = 1;
  #bandwidth = 0;
  #mostBytesPerSec = 0;

  constructor(setting: VirtualSetting) {
    this.#setting = setting;
    this.#seed = setting.seed ?? 1;
    const link = setting.linkBytesPerSec ?? 2.5 * this.#grant(0);
    const wires = { egress: `${link}B/s`, ingress: `${link}B/s`, cpus: 64, memory: '512GiB' };
    const hosts = [host('a', [vmInput(setting.guest)], wires), host('b', [], wires)];
    this.#fleet = new PureFleet(fleetOf(hosts, { simulation: { seed: this.#seed } })).at(setting.beginsAtMs ?? 0);
  }

  play(): VirtualRun {
    const { controller, policy, guest } = this.#setting;
    if (this.#setting.looksBefore ?? true) this.#lookBefore();
    this.#startedAtMs = this.#now();
    this.#startCpuMs = this.#cpu().gotCpuMs;
    this.#bandwidth = this.#allowed(policy.maxBandwidthBytesPerSec);
    this.#mostBytesPerSec = this.#bandwidth;
    let limitMs = downtimeLimit(policy.maxStallMs);
    this.#fleet.migrate(VM, 'a', 'b', { bandwidthBytesPerSec: this.#bandwidth, downtimeLimitMs: limitMs });

    const facts: GuestFacts = {
      memoryBytes: guest.memoryBytes,
      touchedBytes: guest.touchedBytes,
      demandCores: this.#cpu().demandCores,
    };
    let state = controller.start(policy, { guest: facts, evidence: [...this.#looks], nowMs: this.#now() });
    let account: Account = openAccount(this.#cpu());
    let figures: MigrationFigures = NO_FIGURES;
    for (;;) {
      const sample = sampleOf(this.#fleet.state, 'a', VM);
      if (sample === null) throw new Error('no migration');
      if (sample.status === 'completed') return this.#result('completed', null);
      if (sample.status === 'failed' || sample.status === 'cancelled') {
        return this.#result('failed', sample.failure?.message ?? sample.status);
      }
      if (this.#elapsed() >= (this.#setting.limitMs ?? 2 * policy.maxTimeMs)) return this.#result('active', null);
      if (sample.status === 'switchover') {
        this.#advance(this.#now() + 10);
        continue;
      }
      const cpu = this.#cpu();
      const booked = book(account, figures, cpu, cpu.share);
      account = booked.account;
      figures = booked.figures;
      const evidence: ConvergenceSample = {
        atMs: sample.atMs,
        startedAtMs: this.#startedAtMs,
        pass: sample.pass,
        remainingBytes: sample.remainingBytes,
        transferredBytes: sample.transferredBytes,
        totalBytes: sample.totalBytes,
        rateBytesPerSec: sample.rateBytesPerSec,
        dirtyRateBytesPerSec: sample.dirtyRateBytesPerSec,
        grantBytesPerSec: this.#bandwidth,
        share: cpu.share,
        gotShare: booked.gotShare,
        demandCores: account.demandCores,
        harmCpuMs: figures.harmCpuMs,
        windows: this.#takeFresh(),
      };
      const decision = controller.decide(state, evidence, policy);
      state = decision.next;
      this.#note(decision, evidence);
      const { action } = decision;
      if (action.kind === 'abort') {
        this.#fleet.does({ kind: 'cancelMigration', vm: VM, source: 'a' });
        return this.#result('aborted', action.reason.message);
      }
      if (action.kind === 'postCopy') return this.#result('postCopy', action.reason.message);
      if (action.share !== cpu.share) this.#throttle(action.share);
      this.#minShare = Math.min(this.#minShare, action.share);
      this.#send(this.#allowed(action.maxBandwidthBytesPerSec));
      if (downtimeLimit(action.maxStallMs) !== limitMs) {
        limitMs = downtimeLimit(action.maxStallMs);
        this.#fleet.does({ kind: 'setDowntimeLimit', vm: VM, source: 'a', downtimeLimitMs: limitMs });
      }
      this.#lookWhileRunning(decision, action.share);
      this.#wait(Math.max(SHORTEST_TICK_MS, Math.min(TICK_MS, action.lookAgainMs ?? TICK_MS)));
    }
  }

  #now(): number {
    return this.#fleet.state.nowMs;
  }

  #elapsed(): number {
    return this.#now() - this.#startedAtMs;
  }

  #cpu(): GuestCpu {
    return guestCpuOf(this.#fleet.state, 'a', VM);
  }

  #guest(): Guest {
    const guest = this.#fleet.state.guests[VM];
    if (guest === undefined) throw new Error('no guest');
    return guest;
  }

  #active(): Migration | undefined {
    return this.#fleet.state.migrations[0];
  }

  #grant(elapsedMs: number): number {
    const { grant } = this.#setting;
    return typeof grant === 'number' ? grant : grant(elapsedMs);
  }

  /** `cap`: the policy's before the first decision, then what was decided; null: none. */
  #allowed(cap: number | null): number {
    return Math.min(cap ?? Number.POSITIVE_INFINITY, this.#grant(this.#elapsed()));
  }

  #send(bytesPerSec: number): void {
    if (bytesPerSec === this.#bandwidth) return;
    this.#bandwidth = bytesPerSec;
    this.#mostBytesPerSec = Math.max(this.#mostBytesPerSec, bytesPerSec);
    this.#fleet.does({ kind: 'setBandwidth', vm: VM, source: 'a', bytesPerSec });
  }

  #throttle(share: number): void {
    this.#fleet.throttle(VM, 'a', share);
    if (this.#setting.guest.pattern === 'random') this.#flatten();
  }

  /** The simulator's guests sweep. One that writes at random is one whose slope falls as what it has written fills its set. */
  #advance(toMs: number): void {
    while (this.#setting.guest.pattern === 'random' && this.#now() + RANDOM_STEP_MS < toMs) {
      this.#fleet.later(RANDOM_STEP_MS);
      this.#flatten();
    }
    this.#fleet.at(toMs);
    if (this.#setting.guest.pattern === 'random') this.#flatten();
  }

  #flatten(): void {
    const { state } = this.#fleet;
    const migration = this.#active();
    if (migration?.stage !== 'precopy') return;
    const { dirtiedBytes: alreadyBytes } = countersAt(migration, state.nowMs);
    const jitter = passJitter(state.seed, VM, migration.number, migration.pass);
    const { phase } = phaseAt(this.#guest(), state.nowMs);
    const fresh = Math.max(0, 1 - alreadyBytes / phase.workingSetBytes);
    const changed: Migration = {
      ...migration,
      ...countersAt(migration, state.nowMs),
      atMs: state.nowMs,
      dirtySlopeBytesPerSec: phase.dirtyRateBytesPerSec * this.#cpu().share * jitter * fresh,
    };
    this.#fleet.state = frozen({ ...state, migrations: [changed] });
  }

  /** Until so much later; less when a pass begins or a look ends. */
  #wait(ms: number): void {
    const untilMs = this.#now() + ms;
    const pass = this.#active()?.pass;
    for (;;) {
      const lookEndsAtMs = this.#look?.endsAtMs ?? Number.POSITIVE_INFINITY;
      const nextMs = Math.min(untilMs, lookEndsAtMs, this.#active()?.stageEndsAtMs ?? untilMs);
      this.#advance(nextMs);
      this.#endLook();
      const { pass: passNow } = this.#active() ?? {};
      if (passNow !== pass) {
        this.#advance(this.#now() + LATENCY_MS);
        return;
      }
      if (nextMs >= untilMs) return;
    }
  }

  #lookBefore(): void {
    const path = this.#allowed(this.#setting.policy.maxBandwidthBytesPerSec);
    const beganMs = this.#now();
    const taken: DirtyingMeasured[] = [];
    for (;;) {
      const windowMs = nextWindowMs(taken, this.#now() - beganMs, LOOK_BUDGET_MS, path);
      if (windowMs === null) return;
      const measured = this.#measure(windowMs, windowMs);
      this.#fleet.later(windowMs);
      taken.push(measured);
      this.#looks.push(this.#windowOf(measured, windowMs));
    }
  }

  #lookWhileRunning({ evidence }: Decision<unknown>, share: number): void {
    if (this.#look !== null) return;
    const windowMs = nextLookWhileRunning(evidence, share, this.#now());
    if (windowMs !== null) this.#look = { endsAtMs: this.#now() + windowMs, windowMs, before: this.#cpu() };
  }

  #endLook(): void {
    const look = this.#look;
    if (look === null || this.#now() < look.endsAtMs) return;
    this.#look = null;
    if (this.#active()?.stage !== 'precopy') return;
    const after = this.#cpu();
    const wantedMs = after.demandCores * (after.atMs - look.before.atMs);
    const got = wantedMs > 0 ? Math.min(1, (after.gotCpuMs - look.before.gotCpuMs) / wantedMs) : 1;
    const cpuMs = look.windowMs * got;
    this.#fresh.push(this.#windowOf(this.#measure(look.windowMs, cpuMs), cpuMs));
  }

  #takeFresh(): readonly DirtyWindow[] {
    const fresh = this.#fresh;
    this.#fresh = [];
    this.#looks.push(...fresh);
    return fresh;
  }

  /** What page sampling makes of what the guest dirties in its present phase with so much CPU time. */
  #measure(windowMs: number, cpuMs: number): DirtyingMeasured {
    const { memoryBytes } = this.#setting.guest;
    const { phase } = phaseAt(this.#guest(), this.#now());
    const { dirtyRateBytesPerSec: rateBytesPerSec, workingSetBytes } = phase;
    const trueBytes = dirtiedBytes({ rateBytesPerSec, workingSetBytes, pattern: this.#setting.guest.pattern }, cpuMs);
    const pagesPerGib = Math.max(128, Math.min(PAGES_PER_GIB, Math.floor((PAGES_PER_GIB * GIB) / memoryBytes)));
    const samples = Math.round((pagesPerGib * memoryBytes) / GIB);
    const found = this.#drawn(samples, Math.min(1, trueBytes / memoryBytes));
    const mibPerSec = Math.floor((found / samples) * (memoryBytes / MIB) * (1_000 / windowMs));
    return dirtied({ mibPerSec, windowMs, pagesPerGib, memoryBytes });
  }

  /** Binomial: how many of so many pages drawn were dirty. */
  #drawn(count: number, part: number): number {
    const expected = count * part;
    const at = this.#now();
    if (expected < 30 || count - expected < 30) {
      let hits = 0;
      for (let index = 0; index < count; index += 1) if (chance(this.#seed, 'page', at, index) < part) hits += 1;
      return hits;
    }
    // Large counts are as good as normal (Box and Muller).
    const one = Math.max(1e-12, chance(this.#seed, 'look', at));
    const normal = Math.sqrt(-2 * Math.log(one)) * Math.cos(2 * Math.PI * chance(this.#seed, 'angle', at));
    return Math.max(0, Math.min(count, Math.round(expected + normal * Math.sqrt(expected * (1 - part)))));
  }

  #windowOf({ bytes, errorBytes }: DirtyingMeasured, cpuMs: number): DirtyWindow {
    return { atMs: this.#now(), cpuMs, bytes, errorBytes, source: 'sampling' };
  }

  #note(decision: Decision<unknown>, sample: ConvergenceSample): void {
    const { action } = decision;
    this.#relaxed = decision.relaxed;
    this.#notes.push(...decision.notes);
    this.#decisions.push({
      atMs: sample.atMs - this.#startedAtMs,
      pass: sample.pass,
      remainingBytes: sample.remainingBytes,
      harmCpuMs: sample.harmCpuMs,
      share: action.kind === 'run' ? action.share : null,
      maxStallMs: action.kind === 'run' ? action.maxStallMs : null,
      reason: decision.reason,
      prediction: decision.prediction,
    });
  }

  #result(ended: VirtualRun['ended'], why: string | null): VirtualRun {
    const last = this.#fleet.state.hosts['a']?.copies[VM]?.lastOutgoing ?? null;
    const endedAtMs = last?.endedAtMs ?? this.#now();
    const wantedMs = demandMs(this.#guest(), this.#startedAtMs, endedAtMs);
    const gotMs = this.#cpu().gotCpuMs - this.#startCpuMs;
    return {
      ended,
      why,
      totalMs: endedAtMs - this.#startedAtMs,
      downtimeMs: last?.downtimeMs ?? 0,
      harmCpuMs: Math.max(0, wantedMs - gotMs),
      minShare: this.#minShare,
      meanShare: wantedMs > 0 ? gotMs / wantedMs : 1,
      bytes: last?.transferredBytes ?? sampleOf(this.#fleet.state, 'a', VM)?.transferredBytes ?? 0,
      mostBytesPerSec: this.#mostBytesPerSec,
      relaxed: this.#relaxed,
      notes: this.#notes,
      looks: this.#looks,
      decisions: this.#decisions,
      predicted: this.#decisions[0]?.prediction ?? null,
    };
  }
}

function vmInput(guest: VirtualGuest): VmInput {
  const rate = (bytesPerSec: number) => `${bytesPerSec}B/s`;
  const size = (bytes: number) => `${bytes}B`;
  const input = {
    name: VM,
    memory: size(guest.memoryBytes),
    touched: size(guest.touchedBytes),
    cpus: guest.cpus,
    dirtyRate: rate(guest.rateBytesPerSec),
    workingSet: size(guest.workingSetBytes),
    cpuUse: guest.cpuUse,
  };
  if (guest.phases === undefined) return input;
  return {
    ...input,
    phases: guest.phases.map((phase) => ({
      duration: `${phase.durationMs}ms`,
      dirtyRate: rate(phase.rateBytesPerSec),
      workingSet: size(phase.workingSetBytes ?? guest.workingSetBytes),
      cpuUse: phase.cpuUse ?? guest.cpuUse,
    })),
  };
}
