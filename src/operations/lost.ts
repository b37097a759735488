/**
 * Claims of operations that the store does not know any more: it failed over and lost them, or what a process wrote for one
 * arrived after that. Nobody else would ever give them back. Every operation's record is written before its first claim, and
 * its claims are given back before its record ends: one without a record is lost.
 */
import type { ClaimsState } from '../store/claims.ts';
import type { OperationDeps } from './deps.ts';

/** Gives back VMs, room and cordons of lost operations. */
export async function forgetLostOperations({
  claims,
  records,
  clock,
}: Pick<OperationDeps, 'claims' | 'records' | 'clock'>): Promise<void> {
  for (const id of claimants(await claims.read())) {
    if ((await records.operation(id)) === null) await claims.releaseOperation(id, clock.now());
  }
}

function claimants({ vms, reservations, cordons }: ClaimsState): Set<string> {
  return new Set([
    ...Object.values(vms),
    ...Object.values(reservations).map(({ operationId }) => operationId),
    ...Object.values(cordons).flatMap(({ operations }) => operations),
  ]);
}
