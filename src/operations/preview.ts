/** What the plan of a request would be now: the same planner on the same facts, nothing claimed. */

import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { Proposal, VmTask } from '../domain/operation.ts';
import { nonMigratableOf, type OperationRequest } from '../domain/request.ts';
import { type ClaimsState, withCordon } from '../store/claims.ts';
import { tasksOfMoves, withFound } from './find.ts';
import type { FleetView } from './fleet-view.ts';
import { type Planned, planRound } from './plan.ts';

export type Preview = Pick<Proposal, 'moves' | 'shutdowns' | 'skipped' | 'blocked'>;

/** Throws `hostUnreachable` when what is on the host to empty cannot be seen: an unseen host is not an empty one. */
export function preview(fleet: Fleet, view: FleetView, claims: ClaimsState, request: OperationRequest): Preview {
  const tasks = previewTasks(view, request);
  const seen = withoutChanges(claims);
  const cordoned = request.kind === 'evacuateNode' ? withCordon(seen, request.host, 'preview') : seen;
  const nonMigratable = nonMigratableOf(request);
  const { result } = planRound({ fleet, view, operationId: 'preview', tasks, round: 1, nonMigratable })(cordoned);
  return previewOf(tasks, result);
}

/** What a plan of these tasks would do. */
export function previewOf(tasks: readonly VmTask[], result: Planned): Preview {
  const source = new Map(tasks.map((task) => [task.vm, task.source]));
  return {
    moves: result.assigned.map(({ vm, destination, why }) => ({ vm, source: source.get(vm) ?? '', destination, why })),
    shutdowns: result.shutdowns.map(({ vm, why }) => ({ vm, host: source.get(vm) ?? '', why })),
    skipped: result.skipped.map(({ vm, reason }) => ({ vm, reason: reason.message })),
    blocked: [
      ...tasks
        .filter((task) => task.state === 'blocked')
        .map(({ vm, reason }) => ({ vm, reason: reason?.message ?? 'blocked' })),
      ...result.blocked.map(({ vm, reason }) => ({ vm, reason: reason.message })),
      ...result.waiting.map(({ vm, why }) => ({ vm, reason: why })),
    ],
  };
}

function previewTasks(view: FleetView, request: OperationRequest): VmTask[] {
  if (request.kind === 'loadBalance') return tasksOfMoves(request, view);
  const host = view.hosts.get(request.host);
  if (host?.inventory == null || host.unusable !== null) {
    const why = host?.unusable ?? `the fleet file has no host ${request.host}`;
    throw new HostevacError('hostUnreachable', `Nobody can see what is on ${request.host} now: ${why}`);
  }
  return withFound([], host.inventory, view, request.nonMigratable);
}

/** A preview need not wait for inventories younger than the last change: it promises nothing. */
function withoutChanges(claims: ClaimsState): ClaimsState {
  return { ...claims, changedAtMs: {} };
}
