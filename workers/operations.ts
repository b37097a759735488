/** The worker that carries operations out: takes their turns from the queue. Any number may run; one suffices. */

import { reasonOf } from '../src/domain/errors.ts';
import type { OperationDeps } from '../src/operations/deps.ts';
import { sweepOperations } from '../src/operations/sweep.ts';
import { operationTurn } from '../src/operations/turn.ts';
import { MOVES_TOPIC } from '../src/queue/host-queues.ts';
import { about } from '../src/runtime/observer.ts';
import type { Site } from '../src/runtime/site.ts';
import { runCourier } from '../src/webhooks/courier.ts';
import type { Endpoint } from '../src/webhooks/endpoints.ts';

export interface RunningWorker {
  close(graceMs: number): Promise<void>;
}

/** `endpoints`: who is told of events, by one of the workers at a time. */
export async function startOperationsWorker(site: Site, endpoints: readonly Endpoint[] = []): Promise<RunningWorker> {
  const { stores, clock, log, observer } = site;
  await site.heartbeat.announce({ operations: true });
  const deps: OperationDeps = {
    clock,
    fleet: site.fleet,
    leases: stores.leases,
    records: stores.records,
    claims: stores.claims,
    presence: stores.presence,
    events: stores.events,
    wakeups: stores.wakeups,
    delivery: {
      addOperation: (id) => stores.delivery.addOperation(id),
      hasOperation: (id) => stores.delivery.hasOperation(id),
      wakeOperation: (id) => stores.delivery.wakeOperation(id),
      removeMove: (job) => stores.delivery.removeMove(job),
      hasMove: (job) => stores.delivery.hasMove(job),
      addMove: async (job) => {
        await stores.delivery.addMove(job);
        await stores.wakeups.wake(MOVES_TOPIC);
      },
    },
  };
  const consumer = await site.consumers.consumeOperations((id) =>
    about({ operation: id }, async () => {
      const began = performance.now();
      try {
        return await operationTurn(deps, id);
      } catch (error) {
        // The queue logs it, and gives it again.
        if (reasonOf(error).code === 'leaseLost') observer.leaseLost('operation');
        else observer.fault('operation');
        throw error;
      } finally {
        observer.operationTurn(performance.now() - began);
      }
    }),
  );
  const stop = new AbortController();
  const sweeping = sweepOperations(deps, stop.signal, (error) =>
    log.warn({ err: error }, 'could not look for operations without a job'),
  );
  const { cells, leases, events } = stores;
  const courier = { fleetName: site.fleet.name, endpoints, cells, leases, events, clock, observer, log };
  const telling = runCourier(courier, stop.signal);
  log.info('carrying out operations');
  return {
    close: async (graceMs) => {
      stop.abort();
      await Promise.all([sweeping, telling]);
      await consumer.close(graceMs);
    },
  };
}
