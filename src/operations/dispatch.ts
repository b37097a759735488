/**
 * From plan to queue: every task that should be running has its record and its job. A crash between plan and queue is mended
 * here. Where somebody wants notice, the record comes first and the job when the notice has run out: until then nothing of
 * the move has begun, it holds no bandwidth, and it is withdrawn like any that nobody has begun.
 */
import { ENDED_MOVE_STATES, type MoveRecord, type OperationRecord, type VmTask } from '../domain/operation.ts';
import { noticeMs } from '../domain/webhook.ts';
import type { MoveJob } from '../queue/delivery.ts';
import { isActive } from './collect.ts';
import type { OperationDeps } from './deps.ts';
import { isBeingDriven, newMove, noticeOf } from './standing.ts';

/** A move whose guest was looked at this recently (real ms) has a worker; whether the queue still has its job can wait. */
const DRIVEN_WITHIN_REAL_MS = 5_000;

export function jobOf(record: Pick<OperationRecord, 'id'>, task: VmTask): MoveJob {
  return { moveId: task.moveIds.at(-1) ?? '', operationId: record.id, source: task.source };
}

/** `known`: the current moves as they were read last, by id. `forget`: neither a record nor a reservation, so it was never made. */
export async function dispatch(
  deps: OperationDeps,
  record: OperationRecord,
  known: ReadonlyMap<string, MoveRecord>,
  forget: (task: VmTask, moveId: string) => Promise<void>,
): Promise<void> {
  const { claims, clock, delivery, records } = deps;
  const nowMs = clock.now();
  const within = clock.fleetMs(DRIVEN_WITHIN_REAL_MS);
  const tasks = record.tasks
    .filter(isActive)
    .filter((task) => !isBeingDriven(known.get(task.moveIds.at(-1) ?? ''), nowMs, within));
  if (tasks.length === 0) return;
  const moves = await records.moves(tasks.map((task) => task.moveIds.at(-1) ?? ''));
  const notice = noticeMs(deps.fleet.webhooks);
  let reservations: Awaited<ReturnType<typeof claims.read>>['reservations'] | null = null;
  for (const [index, task] of tasks.entries()) {
    const job = jobOf(record, task);
    const move = moves[index] ?? null;
    if (move !== null && ENDED_MOVE_STATES.has(move.state)) continue;
    let made: MoveRecord | null = null;
    if (move === null) {
      reservations ??= (await claims.read()).reservations;
      const destination = reservations[job.moveId]?.host;
      if (destination === undefined) {
        await forget(task, job.moveId);
        continue;
      }
      made = newMove(record.id, task, { id: job.moveId, destination, nowMs, noticeMs: notice });
      // Told before it is kept: a crash in between tells it twice, under one id, and forgets nobody.
      if (made.startsNotBeforeMs !== null) await deps.events.append(noticeOf(made, nowMs));
      await records.createMove(made);
    }
    if (((move ?? made)?.startsNotBeforeMs ?? 0) > nowMs) continue;
    if (move === null || !(await delivery.hasMove(job))) await delivery.addMove(job);
  }
}
