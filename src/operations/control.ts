/** Cancel, pause and resume: durable flags, set by any process, seen by whoever drives the operation or a migration. */
import { HostevacError } from '../domain/errors.ts';
import { ENDED_OPERATION_STATES, type OperationRecord } from '../domain/operation.ts';
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
