/**
 * What must be so at every step, and at the end, whatever went wrong. Looks at the simulated fleet itself, not at what our
 * programs believe of it.
 */
import { ENDED_OPERATION_STATES, GONE_MOVE_STATES } from '../../src/domain/operation.ts';
import type { Command, State } from '../../src/hypervisors/simulated/model.ts';
import { hostAndVm } from '../../src/hypervisors/simulated/records.ts';
import { forgetLostOperations } from '../../src/operations/lost.ts';
import type { World } from '../support/world.ts';

/** A guest without a migration may be throttled for so long: its owner has died, and the guard lifts it (issue of 2 s). */
const LIFTED_WITHIN_MS = 3_000;

export class Violation extends Error {
  override readonly name = 'Violation';
}

/** Whoever drives a VM must hold its lease: what the fleet took from a process, by VM, with that process's own token. */
export interface Taken {
  readonly vm: string;
  readonly token: number;
}

export class Safety {
  readonly #throttledSince = new Map<string, number>();
  readonly #newest = new Map<string, number>();
  readonly #mayShutDown: ReadonlySet<string>;
  #overbooked = 0;

  constructor(mayShutDown: ReadonlySet<string>) {
    this.#mayShutDown = mayShutDown;
  }

  /** Called in the tick in which a process sends a command. Throws `Violation`. */
  sends({ leaseTable }: World, command: Command): void {
    if (!('token' in command)) return;
    const { kind, vm, token } = command;
    if (kind === 'shutdown' && !this.#mayShutDown.has(vm))
      throw new Violation(`${vm} was asked to shut down, which its label and the requests do not allow`);
    const holder = leaseTable.holders.get(`vm:${vm}`);
    if (holder !== undefined && holder.token > token) {
      throw new Violation(`${vm}: a process whose lease had been taken over (${token} < ${holder.token}) sent ${kind}`);
    }
  }

  /** Called for each command that the fleet has carried out. Throws `Violation`. */
  took({ vm, token }: Taken): void {
    const newest = this.#newest.get(vm) ?? 0;
    if (token < newest) {
      throw new Violation(`${vm}: a process whose lease had been taken over (token ${token} < ${newest}) wrote`);
    }
    this.#newest.set(vm, token);
  }

  /** Throws `Violation`. */
  step(state: State): void {
    const running = new Map<string, string[]>();
    for (const [host, { dead, copies }] of Object.entries(state.hosts)) {
      if (dead) continue;
      for (const [vm, copy] of Object.entries(copies)) {
        if (copy.state === 'running') running.set(vm, [...(running.get(vm) ?? []), host]);
      }
    }
    for (const [vm, hosts] of running) {
      if (hosts.length > 1) throw new Violation(`${vm} runs on ${hosts.join(' and ')}`);
    }
    if (state.overbooked.count > this.#overbooked) {
      const last = state.overbooked.last.at(-1);
      throw new Violation(
        `limits on ${last?.resource} sum to ${Math.round(last?.limits ?? 0)} of ${last?.capacity} bytes/s`,
      );
    }
    this.#throttles(state);
  }

  #throttles(state: State): void {
    const driven = new Set(state.migrations.map(({ source, vm }) => `${source}\n${vm}`));
    for (const key of this.#throttledSince.keys()) {
      if (!Object.hasOwn(state.throttled, key) || driven.has(key)) this.#throttledSince.delete(key);
    }
    for (const key of Object.keys(state.throttled)) {
      if (driven.has(key)) continue;
      const since = this.#throttledSince.get(key) ?? state.nowMs;
      this.#throttledSince.set(key, since);
      const { host, vm } = hostAndVm(key);
      if (state.nowMs - since > LIFTED_WITHIN_MS) {
        throw new Violation(`${vm} on ${host} has been throttled for ${state.nowMs - since} ms with no migration`);
      }
    }
  }
}

export interface Outcome {
  readonly operations: readonly string[];
  /** VMs that a dead host took with it. */
  readonly lost: ReadonlySet<string>;
  readonly deadHosts: ReadonlySet<string>;
  readonly mayShutDown: ReadonlySet<string>;
}

/** When all is over. Throws `Violation` with all that is wrong. */
export async function atTheEnd(world: World, { operations, lost, deadHosts, mayShutDown }: Outcome): Promise<void> {
  const state = await world.simulated.view();
  const wrong: string[] = [];
  for (const vm of Object.keys(state.guests)) {
    const copies = Object.entries(state.hosts)
      .filter(([, { dead }]) => !dead)
      .flatMap(([host, at]) => (Object.hasOwn(at.copies, vm) ? [`${host}:${at.copies[vm]?.state}`] : []));
    const running = copies.filter((copy) => copy.endsWith(':running'));
    // It was shut down, and its host may have died after that.
    const isOff =
      copies.length === 1 ? copies[0]?.endsWith(':shutOff') === true : copies.length === 0 && deadHosts.size > 0;
    if (isOff && mayShutDown.has(vm)) continue;
    if (running.length !== 1 && !(running.length === 0 && lost.has(vm))) {
      wrong.push(`${vm} runs ${running.length} times: ${copies.join(', ') || 'nowhere'}`);
    } else if (copies.length > running.length && !lost.has(vm)) {
      wrong.push(`${vm} has left something: ${copies.join(', ')}`);
    }
  }
  for (const key of Object.keys(state.throttled)) wrong.push(`still throttled: ${hostAndVm(key).vm}`);
  for (const { vm, source } of state.migrations) {
    if (!deadHosts.has(source) && !lost.has(vm)) wrong.push(`a migration of ${vm} out of ${source} is still running`);
  }
  const used = await world.budget.use();
  for (const { host, egress, ingress } of used) {
    if (egress.counted + ingress.counted > 0) {
      wrong.push(`bandwidth of ${host} is still counted: ${egress.counted} out, ${ingress.counted} in`);
    }
  }
  // As whoever plans next would.
  await forgetLostOperations(world);
  const { moves } = await world.abandoned.read();
  for (const { vm, source, destination } of Object.values(moves)) {
    wrong.push(`what a move of ${vm} from ${source} to ${destination} may have left is still looked for`);
  }
  const claims = await world.claims.read();
  for (const vm of Object.keys(claims.vms)) wrong.push(`${vm} is still claimed by ${claims.vms[vm]}`);
  for (const id of Object.keys(claims.reservations)) wrong.push(`room is still reserved for ${id}`);
  for (const [host, { operations: wanting }] of Object.entries(claims.cordons)) {
    for (const id of wanting) wrong.push(`${host} is still cordoned for ${id}`);
  }
  for (const item of world.delivery.pending) wrong.push(`the queue still has ${item}`);
  for (const id of operations) {
    const { state: how, tasks } = await world.operation(id);
    if (!ENDED_OPERATION_STATES.has(how)) wrong.push(`${id} has not ended: ${how}`);
    for (const task of tasks) {
      if (!GONE_MOVE_STATES.has(task.state) && task.reason === null)
        wrong.push(`${id}: ${task.vm} is ${task.state} without a reason`);
    }
  }
  if (wrong.length > 0) throw new Violation(wrong.join('\n'));
}
