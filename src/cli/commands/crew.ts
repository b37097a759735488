/** The workers of this process, as `up`, `worker` and `demo` run them: started in order, closed in order. */
import type { Logger } from 'pino';
import { startMigrationsWorker } from '../../../workers/migrations.ts';
import { startOperationsWorker } from '../../../workers/operations.ts';
import type { Fleet } from '../../domain/fleet.ts';
import type { ProducerOptions } from '../../queue/producer.ts';
import type { Observer } from '../../runtime/observer.ts';
import type { LoadedPolicies } from '../../runtime/policy-modules.ts';
import { openSite } from '../../runtime/site.ts';
import type { Tracing } from '../../runtime/tracing.ts';
import type { Endpoint } from '../../webhooks/endpoints.ts';

export interface Crew {
  /**
   * Takes no new work and waits up to `graceMs` (real time) for what can be left in order. Migrations that run go on in
   * their hypervisors; whoever serves the host next adopts them.
   */
  close(graceMs: number): Promise<void>;
}

export async function startCrew(options: {
  readonly fleet: Fleet;
  readonly policies: LoadedPolicies;
  readonly connection: ProducerOptions['connection'];
  readonly log: Logger;
  readonly stateDir: string;
  readonly hosts: readonly string[];
  readonly operations: boolean;
  readonly tracing?: Tracing | null;
  /** They are told of what these workers do. */
  readonly observers?: readonly Observer[];
  /** Who is told of events by a worker of operations. */
  readonly endpoints?: readonly Endpoint[];
}): Promise<Crew> {
  const { fleet, policies, connection, log, stateDir, hosts, operations, endpoints = [], tracing = null } = options;
  const observers = [...(options.observers ?? []), ...(tracing === null ? [] : [tracing.observer])];
  const telemetry = tracing?.telemetry;
  const site = await openSite({ fleet, policies, connection, log, stateDir, observers, telemetry });
  const workers: { close(graceMs: number): Promise<void> }[] = [];
  const close = async (graceMs: number): Promise<void> => {
    await Promise.allSettled(workers.map((worker) => worker.close(graceMs)));
    await site.close();
  };
  try {
    if (hosts.length > 0) workers.push(await startMigrationsWorker(site, [...hosts]));
    if (operations) workers.push(await startOperationsWorker(site, endpoints));
  } catch (error) {
    await close(0);
    throw error;
  }
  return { close };
}
