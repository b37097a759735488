/** What the plan of a request would be now: the same planner on the same facts, nothing claimed. */

import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { VmTask } from '../domain/operation.ts';
import { nonMigratableOf, type OperationRequest } from '../domain/request.ts';
import type { ClaimsState } from '../store/claims.ts';
import { tasksOfMoves, withFound } from './find.ts';
import type { FleetView } from './fleet-view.ts';
import { planRound } from './plan.ts';

export interface Preview {
  readonly moves: readonly {
    readonly vm: string;
    readonly source: string;
    readonly destination: string;
    readonly why: string;
  }[];
  /** Cannot be migrated, and would be shut down when the others have left. */
  readonly shutdowns: readonly { readonly vm: string; readonly host: string; readonly why: string }[];
  /** Cannot be migrated, and would be left where they are on purpose. */
  readonly skipped: readonly { readonly vm: string; readonly reason: string }[];
  readonly blocked: readonly { readonly vm: string; readonly reason: string }[];
}

/** Throws `hostUnreachable` when what is on the host to empty cannot be seen: an unseen host is not an empty one. */
export function preview(fleet: Fleet, view: FleetView, claims: ClaimsState, request: OperationRequest): Preview {
  const tasks = previewTasks(view, request);
  const seen = withoutChanges(claims);
  const cordoned = request.kind === 'evacuateNode' ? withCordon(seen, request.host) : seen;
  const nonMigratable = nonMigratableOf(request);
  const { result } = planRound({ fleet, view, operationId: 'preview', tasks, round: 1, nonMigratable })(cordoned);
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

function withCordon(claims: ClaimsState, host: string): ClaimsState {
  return { ...claims, cordons: { ...claims.cordons, [host]: { operator: false, operations: ['preview'] } } };
}
