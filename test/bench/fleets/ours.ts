/** Hosts of a simulated fleet emptied by the product: all its workflows, in virtual time. */
import { ENDED_OPERATION_STATES } from '../../../src/domain/operation.ts';
import { POLICY_PRESETS, type PolicyName } from '../../../src/domain/policy.ts';
import { direct } from '../../support/process.ts';
import { evacuate, World } from '../../support/world.ts';
import { Books, type Emptied } from './books.ts';
import type { Scenario } from './scenario.ts';

/** Longer than any should take. */
const LIMIT_MS = 6 * 3_600_000;
const ASK_EVERY_MS = 1_000;
const SETTLED_MS = 5_000;

export interface Evacuated extends Emptied {
  /** Where each guest went. */
  readonly destinations: ReadonlyMap<string, string>;
  /** Of operations that are not done, and of what went wrong on the way; empty: nothing. */
  readonly notes: readonly string[];
}

export async function ours({ fleet, evacuate: hosts }: Scenario, policy: PolicyName): Promise<Evacuated> {
  const world = new World(fleet);
  const books = new Books(world.simulated, hosts);
  const crew = await world.crew({ wire: direct, log: (log) => books.watch(log) });
  // As an operator would: what is to be emptied takes nothing more, and the workers know the fleet.
  for (const host of hosts) await world.claims.cordon(host, 'operator');
  await world.clock.advance(SETTLED_MS);
  await books.open();
  const ids: string[] = [];
  for (const host of hosts) ids.push(await world.request(evacuate(host, POLICY_PRESETS[policy])));
  let askedMs = Number.NEGATIVE_INFINITY;
  await world.clock.runUntil(async () => {
    if (world.clock.now() < askedMs + ASK_EVERY_MS) return false;
    askedMs = world.clock.now();
    const operations = await Promise.all(ids.map((id) => world.operation(id)));
    return operations.every(({ state }) => ENDED_OPERATION_STATES.has(state));
  }, LIMIT_MS);
  const operations = await Promise.all(ids.map((id) => world.operation(id)));
  const notes = [
    ...operations.flatMap(({ state, request, reason }) =>
      state === 'done'
        ? []
        : [`${request.kind === 'evacuateNode' ? request.host : request.kind} is ${state}: ${reason?.message ?? ''}`],
    ),
    ...world.delivery.errors.map((error) => (error instanceof Error ? (error.stack ?? error.message) : String(error))),
  ];
  const emptied = await books.close();
  crew.kill();
  return { ...emptied, destinations: books.destinations, notes };
}
