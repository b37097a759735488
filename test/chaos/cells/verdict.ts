/** What must hold once everything is well again and the operation has ended. */
import { ENDED_OPERATION_STATES, type MoveRecord } from '../../../src/domain/operation.ts';
import type { Copy } from '../../lab/place.ts';
import { quotasNow } from '../../lab/quotas.ts';
import { until } from '../../support/condition.ts';
import { type ChaosPlace, HOT, isThrottled, SOURCE } from './chaos-place.ts';
import type { Fault } from './faults.ts';
import type { Step } from './steps.ts';

const ENDS_WITHIN_MS = 300_000;
/** What ended may still have a last thing to tidy. */
const QUIET_WITHIN_MS = 30_000;

export interface Verdict {
  readonly state: string;
  readonly lost: readonly string[];
  /** Empty: nothing is wrong. */
  readonly problems: readonly string[];
}

/** What befell the move, and what it was when that happened. */
export interface Befell {
  readonly fault: Fault;
  readonly step: Step;
}

/** What a move says whose guest went with its QEMU; before its start also that there is nothing to migrate. */
const LOST = new Set(['memoryLost', 'vmMissing', 'sourceDied', 'hypervisorRefused']);

/** Waits for the end of the operation, and for that of what is left of it. */
export async function judge(place: ChaosPlace, id: string, befell: Befell): Promise<Verdict> {
  const problems: string[] = [];
  const ended = async () => ENDED_OPERATION_STATES.has((await place.operation(id)).state);
  await until(ended, ENDS_WITHIN_MS, `the end of ${id}`).catch((error: unknown) => problems.push(String(error)));
  await until(async () => (await traces(place)).length === 0, QUIET_WITHIN_MS, 'nothing left').catch(() => undefined);
  problems.push(...(await traces(place)));
  const { state, reason, tasks } = await place.operation(id);
  const lost: string[] = [];
  let refused = false;
  for (const { name: vm } of place.manifest.guests) {
    if (tasks.every((task) => task.vm !== vm)) problems.push(`${vm} is no part of the operation`);
    const last = (await place.moves(id, vm)).at(-1);
    const running = await runningOf(place, vm);
    const [copy, second] = running;
    // What of it goes on waits for pages that are nowhere any more.
    const half = last?.reason?.code === 'memoryLost' && mayBeLost(vm, befell);
    if (second !== undefined) problems.push(`${vm} runs at ${running.map(({ host }) => host).join(' and ')}`);
    if (half) lost.push(vm);
    else if (copy === undefined) {
      lost.push(vm);
      const told = last?.reason?.code ?? 'nothing';
      if (!mayBeLost(vm, befell)) problems.push(`${vm} runs nowhere (its move is ${last?.state}: ${told})`);
      else if (!LOST.has(told)) problems.push(`${vm} runs nowhere, and its move, ${last?.state}, says ${told}`);
    } else {
      problems.push(...(await faultsOf(place, copy)), ...untrue(last, copy, vm));
      if (vm === HOT && copy.host !== SOURCE && staysAtSource(befell))
        problems.push(`${vm} moved after it was cancelled`);
      refused ||= befell.fault.refuses && copy.host === SOURCE && last?.reason?.code === 'throttleUnavailable';
    }
  }
  if (!rightEnds(befell, { lost: lost.length > 0, refused }).includes(state)) {
    problems.push(`the operation is ${state} (${reason?.code}: ${reason?.message})`);
  }
  // What is left of a lost guest is left for people to look at.
  const strays = place.directories().filter((name) => {
    const [host, vm = ''] = name.split('/');
    return !lost.includes(vm) && place.copies(vm).every((copy) => copy.host !== host);
  });
  if (strays.length > 0) problems.push(`directories of no guest: ${strays.join(', ')}`);
  for (const { name: vm } of place.manifest.guests) {
    const copies = place.copies(vm).map(({ host }) => host);
    if (copies.length > 1 && !lost.includes(vm)) problems.push(`${vm} has copies at ${copies.join(' and ')}`);
  }
  return { state, lost, problems };
}

/** The guest goes with the QEMU that runs it, or that has the memory that the other one needs. */
function mayBeLost(vm: string, { fault, step }: Befell): boolean {
  if (vm !== HOT || fault.kills === null) return false;
  if (fault.kills === 'source') return step !== 'verifying';
  return step === 'switchover' || step === 'postcopy' || step === 'verifying';
}

const STAYS: ReadonlySet<Step> = new Set(['reconciling', 'admitting', 'standby', 'preparing', 'precopy']);

/** A guest that has not begun to go over stays where it is. */
function staysAtSource({ fault, step }: Befell): boolean {
  return fault.cancels && STAYS.has(step);
}

function rightEnds(befell: Befell, seen: { readonly lost: boolean; readonly refused: boolean }): string[] {
  if (befell.fault.cancels) return ['cancelled', 'partial', ...(staysAtSource(befell) ? [] : ['done'])];
  return seen.lost || seen.refused ? ['partial', 'failed'] : ['done'];
}

async function runningOf(place: ChaosPlace, vm: string): Promise<Copy[]> {
  const copies = place.copies(vm);
  const states = await Promise.all(copies.map((copy) => place.stateOf(copy)));
  return copies.filter((_, index) => states[index] === 'running');
}

/** Claims, grants, throttles and active operations that are still there. */
async function traces(place: ChaosPlace): Promise<string[]> {
  const left: string[] = [];
  const { vms, reservations } = await place.stores.claims.read();
  if (Object.keys(vms).length > 0) left.push(`claims: ${JSON.stringify(vms)}`);
  if (Object.keys(reservations).length > 0) left.push(`reservations: ${JSON.stringify(reservations)}`);
  for (const [host, counted] of Object.entries(await place.counted())) {
    if (counted.some((bytes) => bytes !== 0)) left.push(`budget of ${host}: ${counted.join(' and ')} bytes/s counted`);
  }
  const active = await place.stores.records.activeOperations();
  if (active.length > 0) left.push(`active: ${active.join(', ')}`);
  const changed = [...quotasNow()].filter(([group, quota]) => (place.quotasBefore.get(group) ?? quota) !== quota);
  if (changed.length > 0) left.push(`quotas: ${JSON.stringify(changed)}`);
  for (const copy of place.copies()) if (isThrottled(copy)) left.push(`${copy.vm} is held back at ${copy.host}`);
  return left;
}

/** It runs, goes on, and its memory is whole. */
async function faultsOf(place: ChaosPlace, copy: Copy): Promise<string[]> {
  const where = `${copy.vm} at ${copy.host}`;
  try {
    const { faults } = await place.check(copy);
    await place.goesOn(copy);
    return faults.map((fault) => `${where}: ${fault}`);
  } catch (error) {
    return [`${where}: ${error instanceof Error ? error.message : String(error)}`];
  }
}

/** What the last move says of itself is what is. */
function untrue(move: MoveRecord | undefined, copy: Copy, vm: string): string[] {
  if (move === undefined) return [`${vm} has no move`];
  const { state, source, destination, reason } = move;
  if (state === 'done') return copy.host === destination ? [] : [`${vm} is "done" and at ${copy.host}`];
  const said = reason === null ? [`${vm} is ${state} without a reason`] : [];
  return copy.host === source ? said : [...said, `${vm} is "${state}" and at ${copy.host}`];
}
