/**
 * One turn of an operation: fold in what its migrations came to, plan what is left, see that the queue has what should
 * run, and either finish or say when to look again. Every turn starts from the records, so any process may take the next
 * one; what a turn does twice is harmless.
 *
 *   queued -> planning -> running <-> paused -> done | partial | failed | cancelled | blocked
 *                     -> awaitingApproval -> running (asked for with approve-first; see approval.ts)
 */
import type { Reason } from '../domain/errors.ts';
import {
  type Control,
  ENDED_MOVE_STATES,
  ENDED_OPERATION_STATES,
  isOverdue,
  type MoveRecord,
  needsApproval,
  type OperationRecord,
  type OperationState,
  type VmTask,
} from '../domain/operation.ts';
import { hostOfRequest, nonMigratableOf } from '../domain/request.ts';
import { formatDuration } from '../domain/units.ts';
import type { OperationTurn } from '../queue/delivery.ts';
import { isLease, type Lease } from '../store/lease.ts';
import { INVENTORY_TOPIC } from '../store/presence.ts';
import { afterPlan, begins, type Told, toldOfPlan } from './after-plan.ts';
import { towardsApproval } from './approval.ts';
import { collect, isActive, isPending } from './collect.ts';
import type { OperationDeps } from './deps.ts';
import { dispatch, jobOf } from './dispatch.ts';
import { tasksOfMoves, withFound } from './find.ts';
import { changedAt, type FleetView, readFleet } from './fleet-view.ts';
import { forgetLostOperations } from './lost.ts';
import { isOutOfPatience, patience } from './patience.ts';
import { type Planned, planRound } from './plan.ts';
import { outcome } from './result.ts';
import { closing, givenUp, isEmpty, isSoon, isWorthSaving, newlySaid, type Standing, waits } from './standing.ts';

/** The net under the wake-ups: a running operation looks again after this, whatever happens (real ms). */
const LOOK_AGAIN_MS = 1_000;
/** Fresh inventories have been asked for and arrive within milliseconds where a worker lives. */
const SOON_MS = 50;
/** Whoever waits for a person's word is woken by it; how the fleet changes meanwhile is looked at this often (real ms). */
const PROPOSAL_LOOK_MS = 5_000;
const UNSEEN: Reason = { code: 'hostUnreachable', message: 'what there is to move could not be seen' };

export async function operationTurn(deps: OperationDeps, id: string): Promise<OperationTurn> {
  const lease = await deps.leases.acquire(`operation:${id}`);
  if (!isLease(lease)) return { ended: false, againInRealMs: LOOK_AGAIN_MS };
  try {
    const record = await deps.records.operation(id);
    if (record !== null && ENDED_OPERATION_STATES.has(record.state)) {
      // A process that died between the record's last write and this one left it among the active ones.
      await deps.records.retire(id);
      return { ended: true };
    }
    if (record === null) return { ended: true };
    return await new Turn(deps, lease, record).take();
  } finally {
    await lease.release();
  }
}

class Turn {
  readonly #deps: OperationDeps;
  readonly #lease: Lease;
  #record: OperationRecord;
  /** The current moves as this turn has read them, by id. */
  #moves: ReadonlyMap<string, MoveRecord> = new Map();
  /** Somebody has approved what it proposes. */
  #isApproved = false;

  constructor(deps: OperationDeps, lease: Lease, record: OperationRecord) {
    this.#deps = deps;
    this.#lease = lease;
    this.#record = record;
  }

  get #host(): string | null {
    return hostOfRequest(this.#record.request);
  }

  async take(): Promise<OperationTurn> {
    if (this.#record.state === 'queued') await this.#begin();
    const control = await this.#deps.records.control(this.#record.id);
    this.#isApproved = control.approved !== null;
    await this.#collect();
    const overdue = this.#overdue();
    const seen = await readFleet(this.#deps, this.#concerned());
    const found = await this.#find(seen, control);
    // What it has found just now has to be planned on all of them.
    const view = this.#concerned() === undefined ? await this.#whole(seen) : seen;
    if (control.cancel || overdue !== null) await this.#stopTheRest(control, overdue);
    // A host that no worker serves is waited for; one that does not answer its worker is planned on, to run out of patience.
    const unserved = found === 'later' && (needsApproval(this.#record) || this.#unreachable(view) === null);
    const planned =
      unserved || control.cancel || overdue !== null || control.pause ? null : await this.#plan(view, control);
    const noticed = !control.cancel && overdue === null;
    const forget = (task: VmTask, moveId: string): Promise<void> => this.#forgetMove(task, moveId);
    await dispatch(this.#deps, this.#record, { known: this.#moves, noticed, forget });
    return this.#parkOrFinish({ view, control, planned, overdue, found });
  }

  /** The hosts whose inventories a turn without anything to plan looks at; undefined: all. */
  #concerned(): ReadonlySet<string> | undefined {
    const { tasks } = this.#record;
    if (tasks.length === 0 || tasks.some(isPending)) return undefined;
    const sources = tasks.filter(isActive).map(({ source }) => source);
    return new Set(this.#host === null ? sources : [...sources, this.#host]);
  }

  async #whole(seen: FleetView): Promise<FleetView> {
    return seen.hosts.size === this.#deps.fleet.hosts.length ? seen : await readFleet(this.#deps);
  }

  async #begin(): Promise<void> {
    const cordons = this.#host !== null && !needsApproval(this.#record);
    if (this.#host !== null && cordons) await this.#deps.claims.cordon(this.#host, this.#record.id, this.#lease);
    const now = this.#deps.clock.now();
    await this.#event(
      'operation.planning',
      cordons ? `${this.#host} is cordoned; planning where its VMs go` : 'planning the moves',
    );
    // 0: the producer did not know the fleet's clock yet.
    await this.#save({ state: 'planning', startedAtMs: now, createdAtMs: this.#record.createdAtMs || now });
  }

  /** Folds ended migrations into their tasks and gives back what they held. */
  async #collect(): Promise<void> {
    const { clock, claims, records } = this.#deps;
    const active = this.#record.tasks.filter(isActive);
    const moves = await records.moves(active.map((task) => task.moveIds.at(-1) ?? ''));
    const byId = new Map(moves.filter((move) => move !== null).map((move) => [move.id, move]));
    this.#moves = byId;
    const rules = { nowMs: clock.now(), maxAttempts: this.#record.request.policy.maxAttempts };
    const tasks = this.#record.tasks.map((task) => collect(task, byId.get(task.moveIds.at(-1) ?? '') ?? null, rules));
    for (const move of byId.values()) {
      if (!ENDED_MOVE_STATES.has(move.state)) continue;
      await claims.releaseMove(move.id, rules.nowMs, [move.source, move.destination]);
      const task = tasks.find((one) => one.vm === move.vm);
      if (task !== undefined && isPending(task)) {
        await this.#event(
          'move.replan',
          `${move.vm}: attempt ${task.moveIds.length} failed (${move.reason?.message ?? move.state}); planned anew`,
          move,
        );
      } else {
        await claims.releaseVm(move.vm, this.#record.id);
      }
    }
    if (tasks.some((task, index) => task !== this.#record.tasks[index])) await this.#save({ tasks });
  }

  #overdue(): Reason | null {
    if (!isOverdue(this.#record, this.#deps.clock.now())) return null;
    const deadline = formatDuration(this.#record.request.deadlineMs ?? 0);
    return { code: 'deadlineExceeded', message: `the deadline of ${deadline} passed` };
  }

  /** No new move starts; moves that no worker has begun end here, running ones see the flag or the deadline themselves. */
  async #stopTheRest(control: Control, overdue: Reason | null): Promise<void> {
    const reason = control.cancel ? { code: 'cancelled' as const, message: 'cancelled before it began' } : overdue;
    const end = control.cancel ? 'cancelled' : 'failed';
    const tasks: VmTask[] = [];
    for (const task of this.#record.tasks) {
      if (isPending(task)) {
        tasks.push({ ...task, state: end, needsMove: false, reason: task.reason ?? reason });
        await this.#deps.claims.releaseVm(task.vm, this.#record.id);
      } else {
        if (isActive(task)) await this.#withdraw(task, end, reason);
        tasks.push(task);
      }
    }
    await this.#save({ tasks });
    await this.#collect();
  }

  async #withdraw(task: VmTask, state: 'cancelled' | 'failed', reason: Reason | null): Promise<void> {
    const job = jobOf(this.#record, task);
    const move = this.#moves.get(job.moveId);
    if (move === undefined || move.token > 0) return;
    // Whoever was told that it is about to begin learns that it does not, also if this process dies before it is noted.
    const kind = state === 'cancelled' ? 'move.cancelled' : 'move.failed';
    await this.#event(kind, `${task.vm}: ${reason?.message ?? state}; nothing of it was begun`, move);
    const ended = await this.#deps.records.endUnbegunMove(job.moveId, {
      state,
      reason,
      endedAtMs: this.#deps.clock.now(),
    });
    if (ended) await this.#deps.delivery.removeMove(job);
  }

  /** The tasks there are, as far as can be seen now; `later` when it cannot. */
  async #find(view: FleetView, control: Control): Promise<'found' | 'later'> {
    const { request, tasks } = this.#record;
    if (request.kind === 'loadBalance') {
      // Where they are may change as long as nobody has approved anything.
      if (tasks.length > 0 && !needsApproval(this.#record)) return 'found';
      const all = tasksOfMoves(request, view);
      const unseen = [...view.hosts.values()].some((host) => host.unusable !== null);
      const unknown = all.some((task) => task.reason?.code === 'hostUnreachable' || task.reason?.code === 'unknownVm');
      if (unseen && unknown && !this.#outOfPatience() && !control.cancel) return 'later';
      if (JSON.stringify(all) !== JSON.stringify(tasks)) await this.#save({ tasks: all });
      return 'found';
    }
    const host = view.hosts.get(request.host);
    const claims = await this.#deps.claims.read();
    const changedAtMs = changedAt(claims, request.host);
    if (host?.inventory == null || host.unusable !== null) return 'later';
    if (host.inventory.takenAtMs <= changedAtMs) {
      await this.#deps.wakeups.wake(INVENTORY_TOPIC);
      return 'later';
    }
    if (!control.cancel) {
      const found = withFound(tasks, host.inventory, view, request.nonMigratable);
      if (found.length !== tasks.length || found.some((task, index) => task !== tasks[index]))
        await this.#save({ tasks: found });
    }
    return 'found';
  }

  async #plan(view: FleetView, control: Control): Promise<Planned | null> {
    if (this.#isWorthApproval()) return this.#propose(view, control);
    if (!this.#record.tasks.some(isPending)) return null;
    await forgetLostOperations(this.#deps);
    const round = this.#record.round + 1;
    const { id: operationId, tasks: before, request } = this.#record;
    const nonMigratable = nonMigratableOf(request);
    const input = { fleet: this.#deps.fleet, view, operationId, tasks: before, round, nonMigratable };
    this.#lease.assertHeld();
    const planned = await this.#deps.claims.transact(planRound(input), this.#lease);
    if (planned.outdated.length > 0) {
      await this.#deps.wakeups.wake(INVENTORY_TOPIC);
      return planned;
    }
    const givenUp = this.#outOfPatience()
      ? new Map(planned.waiting.filter((one) => one.onInventory).map((one) => [one.vm, one.why]))
      : null;
    const tasks = afterPlan(this.#record.tasks, planned, givenUp);
    const changed = tasks.some((task, index) => task !== this.#record.tasks[index]);
    await this.#tell(toldOfPlan(tasks, planned));
    if (changed) await this.#save({ tasks, ...(begins(planned) ? { round } : {}) });
    return planned;
  }

  /** There is something to approve: an evacuation that moves nothing still cordons its host. */
  #isWorthApproval(): boolean {
    return needsApproval(this.#record) && (this.#host !== null || this.#record.tasks.some(isPending));
  }

  async #propose(view: FleetView, { approved }: Control): Promise<Planned | null> {
    const now = { record: this.#record, view, approved, outOfPatience: this.#outOfPatience() };
    const step = await towardsApproval(this.#deps, this.#lease, now);
    await this.#tell(step.told);
    if (step.change !== null) await this.#save(step.change);
    if (step.voided !== null) {
      this.#lease.assertHeld();
      await this.#deps.records.forgetApproval(this.#record.id, step.voided);
    }
    return step.planned;
  }

  /** Before what is told is saved: a crash in between tells it twice, and loses nothing. */
  async #tell(told: readonly Told[]): Promise<void> {
    for (const { kind, message, vm, moveId } of told)
      await this.#event(kind, message, vm === null ? null : { vm, id: moveId });
  }

  /** Neither a record nor a reservation: the move was never made. It is planned again. */
  async #forgetMove(task: VmTask, moveId: string): Promise<void> {
    await this.#save({
      tasks: this.#record.tasks.map((one) =>
        one === task ? { ...one, needsMove: true, moveIds: one.moveIds.filter((each) => each !== moveId) } : one,
      ),
    });
  }

  async #parkOrFinish(now: Standing & { readonly overdue: Reason | null }): Promise<OperationTurn> {
    const { control, planned, overdue } = now;
    const { tasks } = this.#record;
    const active = tasks.some(isActive);
    const stopping = control.cancel || overdue !== null;
    const unseen = now.found === 'later' ? this.#unreachable(now.view) : null;
    const hopeful = now.found === 'later' && (unseen === null || !this.#outOfPatience());
    const isSeen = now.found === 'found';
    const isLeft = needsApproval(this.#record) ? isSeen && this.#isWorthApproval() : tasks.some(isPending);
    if (!active && (stopping || !(isLeft || hopeful))) {
      const empty = this.#host === null || now.found === 'later' ? null : isEmpty(now.view, this.#host);
      // What nobody has approved has not been done, even if that is nothing.
      const undone = now.found === 'later' ? (unseen ?? UNSEEN) : this.#isWorthApproval() ? overdue : null;
      await this.#finish(control, { overdue, unseen: undone, empty });
      return { ended: true };
    }
    const onInventory = now.found === 'later' || (planned?.waiting.some((one) => one.onInventory) ?? false);
    await this.#saveStanding({
      state: control.pause && !stopping ? 'paused' : this.#stateOfPlan(),
      waitingFor: waits(this.#record, now, this.#moves),
      ...patience(onInventory && !active && !control.pause, this.#record, this.#deps.clock),
    });
    const isShown = this.#record.state === 'awaitingApproval' && !this.#isApproved;
    const lookAgainMs = isShown ? PROPOSAL_LOOK_MS : LOOK_AGAIN_MS;
    return { ended: false, againInRealMs: isSoon(this.#record, now) ? SOON_MS : lookAgainMs };
  }

  #stateOfPlan(): OperationState {
    if (this.#record.proposal !== null) return 'awaitingApproval';
    return this.#record.tasks.length > 0 && !needsApproval(this.#record) ? 'running' : 'planning';
  }

  /** Why the evacuated host itself does not answer its worker; null: it does, or nobody asks it (then a worker is awaited). */
  #unreachable(view: FleetView): Reason | null {
    const message = this.#host === null ? null : (view.hosts.get(this.#host)?.inventory?.unreachable ?? null);
    return message === null ? null : { code: 'hostUnreachable', message };
  }

  /** A plan that somebody may be looking at is not given up because a host is silent; what was approved is not waited for longer than others. */
  #outOfPatience(): boolean {
    const isLookedAt = this.#record.proposal !== null && !this.#isApproved;
    return !isLookedAt && isOutOfPatience(this.#record, this.#deps.clock);
  }

  async #finish(
    control: Control,
    why: { readonly overdue: Reason | null; readonly unseen: Reason | null; readonly empty: boolean | null },
  ): Promise<void> {
    if (why.unseen !== null) this.#record = givenUp(this.#record, why.unseen);
    const { state, reason } = outcome(this.#record, { cancelled: control.cancel, ...why });
    // A drained host stays cordoned, or it would fill again before its maintenance; an evacuation that moved nothing gives it back.
    if (this.#host !== null && (state === 'done' || state === 'partial')) {
      await this.#deps.claims.cordon(this.#host, 'operator', this.#lease);
    }
    await this.#deps.claims.releaseOperation(this.#record.id, this.#deps.clock.now());
    // Told before it is saved: who sees the end in the record will find the last event there too.
    await this.#event(`operation.${state}`, closing(this.#record, reason));
    await this.#save({
      state,
      reason,
      empty: why.empty,
      proposal: null,
      endedAtMs: this.#deps.clock.now(),
      waitingFor: [],
      waitingSinceMs: null,
      waitingSeenMs: null,
    });
  }

  /** Saves only what changed, and tells watchers when what is waited for changed. */
  async #saveStanding(
    standing: Pick<OperationRecord, 'state' | 'waitingFor' | 'waitingSinceMs' | 'waitingSeenMs'>,
  ): Promise<void> {
    const { clock } = this.#deps;
    const { state, waitingFor } = this.#record;
    if (!isWorthSaving(this.#record, standing, clock)) return;
    if (state !== standing.state)
      await this.#event(`operation.${standing.state}`, standing.waitingFor[0] ?? standing.state);
    for (const line of newlySaid(waitingFor, standing.waitingFor)) await this.#event('operation.waiting', line);
    await this.#save({ ...standing, waitingForAtMs: clock.now() });
  }

  async #save(change: Partial<OperationRecord>): Promise<void> {
    this.#record = { ...this.#record, ...change };
    await this.#deps.records.saveOperation(this.#lease, this.#record);
  }

  async #event(kind: string, message: string, move: { vm: string; id: string | null } | null = null): Promise<void> {
    this.#lease.assertHeld();
    await this.#deps.events.append({
      atMs: this.#deps.clock.now(),
      operationId: this.#record.id,
      kind,
      vm: move?.vm ?? null,
      moveId: move?.id ?? null,
      message,
    });
  }
}
