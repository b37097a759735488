/**
 * Where an operation stands between two turns: what it waits for, whether that comes at once, how it is summed up, what a
 * move looks like before anybody has begun it. Pure; the turn (turn.ts) decides what to do.
 */
import type { Reason } from '../domain/errors.ts';
import {
  type Control,
  ENDED_MOVE_STATES,
  type MoveRecord,
  NO_FIGURES,
  type OperationEvent,
  type OperationRecord,
  type VmTask,
} from '../domain/operation.ts';
import { formatDuration } from '../domain/units.ts';
import { NOTICE_EVENT } from '../domain/webhook.ts';
import { waitsForApproval } from './approval.ts';
import { isActive, isPending } from './collect.ts';
import type { FleetView } from './fleet-view.ts';
import type { Planned } from './plan.ts';

/** What a turn has learned. */
export interface Standing {
  readonly view: FleetView;
  readonly control: Control;
  /** null: nothing was to be planned, or nothing may be. */
  readonly planned: Planned | null;
  /** `later`: what there is to do cannot be seen yet. */
  readonly found: 'found' | 'later';
}

/** What is waited for, one line each. */
export function waits(record: OperationRecord, { view, control, planned, found }: Standing): string[] {
  const lines: string[] = [];
  if (control.pause && !control.cancel) lines.push('paused; `hostevac resume` lets it go on');
  if (found === 'later') lines.push(...unseen(record, view));
  if (record.proposal !== null) lines.push(waitsForApproval(record.id, record.proposal));
  for (const one of planned?.waiting ?? []) lines.push(one.why);
  for (const { vm, moveId } of planned?.shutdowns ?? []) {
    if (moveId === null) lines.push(`${vm} is shut down when the others have left`);
  }
  for (const task of record.tasks.filter(isActive)) {
    const host = view.hosts.get(task.source);
    if (host !== undefined && !host.served) {
      lines.push(`hostUnreachable: ${host.unusable ?? `no worker serves ${host.host}`}`);
    }
  }
  return [...new Set(lines)];
}

function unseen({ request }: OperationRecord, view: FleetView): string[] {
  const hosts = [...view.hosts.values()].filter(({ host }) => request.kind === 'loadBalance' || host === request.host);
  return hosts.flatMap(({ unusable }) => unusable ?? []);
}

/** True when all that is missing is an inventory that a living worker is about to publish. */
export function isSoon({ request }: OperationRecord, { view, planned, found }: Standing): boolean {
  if ((planned?.outdated.length ?? 0) > 0) return true;
  const source = request.kind === 'evacuateNode' ? view.hosts.get(request.host) : undefined;
  return found === 'later' && source?.served === true && source.unusable === null;
}

/** Its guest's CPU time was booked within the last `withinMs`: somebody is at it. */
export function isBeingDriven(move: MoveRecord | undefined, nowMs: number, withinMs: number): boolean {
  if (move === undefined || ENDED_MOVE_STATES.has(move.state)) return false;
  return move.account !== null && Math.abs(nowMs - move.account.atMs) < withinMs;
}

/** Nothing runs there, nor is paused. */
export function isEmpty(view: FleetView, host: string): boolean | null {
  const vms = view.hosts.get(host)?.inventory?.vms;
  return vms?.every(({ state }) => state !== 'running' && state !== 'paused') ?? null;
}

/** The operation's last words. */
export function closing({ tasks, request }: OperationRecord, reason: Reason | null): string {
  const count = (state: VmTask['state']): number => tasks.filter((task) => task.state === state).length;
  const away = request.kind === 'evacuateNode' ? ` away from ${request.host}` : '';
  const others = [
    ...(count('shutOff') > 0 ? [`, ${count('shutOff')} shut down`] : []),
    ...(count('skipped') > 0 ? [`, ${count('skipped')} left there on purpose`] : []),
  ].join('');
  const what = `${count('done')} of ${tasks.length} VMs moved${away}${others}`;
  return reason === null ? what : `${what}; ${reason.message}`;
}

/** It ends with VMs that nobody could plan for. */
export function givenUp(record: OperationRecord, why: Reason): OperationRecord {
  const tasks = record.tasks.map(
    (task): VmTask =>
      isPending(task) ? { ...task, state: 'blocked', needsMove: false, reason: task.reason ?? why } : task,
  );
  return { ...record, tasks };
}

/** A move that nobody has begun. */
export function newMove(
  operationId: string,
  task: VmTask,
  move: { readonly id: string; readonly destination: string; readonly nowMs: number; readonly noticeMs?: number },
): MoveRecord {
  const { id, destination, nowMs, noticeMs = 0 } = move;
  return {
    id,
    kind: task.treatment === 'shutdown' ? 'shutdown' : 'migration',
    operationId,
    vm: task.vm,
    uuid: null,
    source: task.source,
    destination,
    attempt: task.moveIds.length,
    state: 'queued',
    step: 'reconciling',
    reason:
      noticeMs > 0
        ? { code: 'internal', message: `waits ${formatDuration(noticeMs)} from its notice to whom it concerns` }
        : null,
    queuedAtMs: nowMs,
    // Moves of one plan are queued within an instant; the number at the end of the id is their place in it.
    order: nowMs + Number(id.split('-').at(-1)) / 1_000,
    startsNotBeforeMs: noticeMs > 0 ? nowMs + noticeMs : null,
    startedAtMs: null,
    headStartMs: 0,
    endedAtMs: null,
    token: 0,
    askedAtMs: null,
    migrateSent: false,
    progress: null,
    predicted: null,
    evidence: [],
    account: null,
    figures: NO_FIGURES,
    relaxed: [],
  };
}

/** What whoever it concerns is told before a move. */
export function noticeOf(move: MoveRecord, nowMs: number): OperationEvent {
  const { operationId, id: moveId, vm, kind: action, source, destination, startsNotBeforeMs } = move;
  const at = startsNotBeforeMs ?? nowMs;
  const what =
    action === 'shutdown' ? `is to be shut down on ${source}` : `is to be moved from ${source} to ${destination}`;
  return {
    atMs: nowMs,
    operationId,
    kind: NOTICE_EVENT,
    vm,
    moveId,
    message: `${vm} ${what}, not before ${formatDuration(at - nowMs)} from now`,
    notice: { action, source, destination, startsNotBeforeMs: at },
  };
}
