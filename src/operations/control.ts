/** Cancel, pause, resume and approve: durable flags, set by any process, seen by whoever drives the operation or a migration. */
import { HostevacError } from '../domain/errors.ts';
import {
  approvalOf,
  ENDED_OPERATION_STATES,
  isOverdue,
  needsApproval,
  type OperationRecord,
} from '../domain/operation.ts';
import type { OperationDeps } from './deps.ts';

type ControlDeps = Pick<OperationDeps, 'records' | 'delivery'>;

export interface ControlResult {
  readonly changed: boolean;
  readonly message: string;
}

export async function cancel(deps: ControlDeps, id: string): Promise<ControlResult> {
  const record = await known(deps, id);
  if (ENDED_OPERATION_STATES.has(record.state)) return already(record);
  const changed = await deps.records.setControl(id, { cancel: true });
  await deps.delivery.wakeOperation(id);
  return {
    changed,
    message: changed
      ? `${id} is being cancelled; running migrations end and their VMs stay at their source, VMs that have moved stay moved`
      : `${id} is already being cancelled`,
  };
}

/** `now`: running migrations are cancelled too, and start again after `resume`. */
export async function pause(deps: ControlDeps, id: string, now: boolean): Promise<ControlResult> {
  const record = await known(deps, id);
  if (ENDED_OPERATION_STATES.has(record.state)) return already(record);
  const changed = await deps.records.setControl(id, { pause: true, pauseNow: now });
  await deps.delivery.wakeOperation(id);
  const running = now ? 'running migrations are stopped and start again later' : 'running migrations finish';
  return { changed, message: changed ? `${id} is paused: no new move starts, ${running}` : `${id} is already paused` };
}

export async function resume(deps: ControlDeps, id: string): Promise<ControlResult> {
  const record = await known(deps, id);
  if (ENDED_OPERATION_STATES.has(record.state)) return already(record);
  const changed = await deps.records.setControl(id, { pause: false, pauseNow: false });
  await deps.delivery.wakeOperation(id);
  return { changed, message: changed ? `${id} goes on` : `${id} is not paused` };
}

/** `hash`: of the proposal that was seen; null: whichever stands now. */
export async function approve(
  deps: ControlDeps & Pick<OperationDeps, 'clock'>,
  id: string,
  hash: string | null,
): Promise<ControlResult> {
  const record = await known(deps, id);
  const unchanged = (message: string): ControlResult => ({ changed: false, message });
  if (ENDED_OPERATION_STATES.has(record.state)) return already(record);
  if (!record.request.approveFirst)
    return unchanged(`${id} does not wait for approval: it was not asked for with approve-first`);
  if (!needsApproval(record)) return unchanged(`${id} has been approved already`);
  if ((await deps.records.control(id)).cancel) return unchanged(`${id} is being cancelled; nothing of it begins`);
  if (isOverdue(record, deps.clock.now()))
    return unchanged(`the deadline of ${id} has passed; nothing of it begins: ask for it again`);
  const { proposal } = record;
  if (proposal === null) return unchanged(`${id} has no plan to approve yet; \`hostevac status ${id}\` shows it`);
  if (hash !== null && hash !== proposal.hash)
    return unchanged(
      `${id} proposes another plan by now (${proposal.hash}, not ${hash}); look at it and approve it: hostevac status ${id}`,
    );
  const changed = await deps.records.setControl(id, { approved: approvalOf(proposal) });
  await deps.delivery.wakeOperation(id);
  const goesOn = record.state === 'paused' ? 'begins when it is resumed' : 'begins';
  return {
    changed,
    message: changed ? `${id} is approved (plan ${proposal.hash}) and ${goesOn}` : `${id} has been approved already`,
  };
}

/** Throws `unknownOperation`. */
export async function known(deps: Pick<ControlDeps, 'records'>, id: string): Promise<OperationRecord> {
  const record = await deps.records.operation(id);
  if (record === null) {
    throw new HostevacError(
      'unknownOperation',
      `There is no operation ${JSON.stringify(id)}; \`hostevac status\` lists them`,
    );
  }
  return record;
}

function already(record: OperationRecord): ControlResult {
  return { changed: false, message: `${record.id} has already ended: ${record.state}` };
}
