/** The worker that migrates: serves hosts, publishes what is on them, carries out the moves in their queues. */
import { hostOf } from '../src/domain/fleet.ts';
import { tendAbandoned } from '../src/migration/abandoned.ts';
import type { MigrationDeps } from '../src/migration/context.ts';
import { afterFault, migrate } from '../src/migration/migrate.ts';
import type { MoveJob, MoveTurn } from '../src/queue/delivery.ts';
import { HostQueues } from '../src/queue/host-queues.ts';
import { endProcess } from '../src/runtime/end-process.ts';
import { InventoryPublisher } from '../src/runtime/inventory-publisher.ts';
import { MeasuringService } from '../src/runtime/measure.ts';
import { about, type Subject } from '../src/runtime/observer.ts';
import { thisProcess } from '../src/runtime/process-identity.ts';
import type { Site } from '../src/runtime/site.ts';
import { holderOf } from '../src/store/claims.ts';
import { INVENTORY_TOPIC } from '../src/store/presence.ts';
import type { Records } from '../src/store/records.ts';
import type { RunningWorker } from './operations.ts';

/** Serves `hosts` of the site's fleet. Throws `fleetMismatch`. */
export async function startMigrationsWorker(site: Site, hosts: readonly string[]): Promise<RunningWorker> {
  const { stores, log, observer } = site;
  await site.heartbeat.announce({ hosts });
  const deps = migrationDeps(site);
  const deliver = async (job: MoveJob, signal: AbortSignal): Promise<MoveTurn> => {
    observer.moveBegins(job.moveId);
    try {
      return await migrate(deps, job, signal);
    } catch (error) {
      const { turn, reason } = afterFault(error);
      if (reason.code === 'leaseLost') observer.leaseLost('vm');
      else observer.fault('move');
      log.error({ err: error }, 'a move was interrupted; it is looked at again');
      return turn;
    }
  };
  const publisher = new InventoryPublisher(stores, site.hypervisorOf, hosts, log);
  const queues = new HostQueues({
    hosts,
    consumers: site.consumers,
    hostsWithWork: (names) => stores.delivery.hostsWithWork(names),
    handler: async (job, signal) => about(await subjectOfMove(deps.records, job), () => deliver(job, signal)),
    wakeups: stores.wakeups,
    clock: site.clock,
    onError: (error) => log.error({ err: error }, 'queues'),
  });
  const measuring = new MeasuringService(
    {
      clock: site.clock,
      hypervisorOf: site.hypervisorOf,
      measurements: stores.measurements,
      wakeups: stores.wakeups,
      log,
      id: thisProcess().id,
    },
    hosts,
  );
  const stop = new AbortController();
  const tending = tendAbandoned(deps, hosts, stop.signal, (error) => {
    log.error({ err: error }, 'what was abandoned was not looked at; it is tried again');
  });
  warm(site, hosts);
  log.info({ hosts }, 'serving hosts');
  return {
    close: async (graceMs) => {
      stop.abort();
      await queues.close(graceMs);
      await Promise.all([publisher.close(), measuring.close(), tending]);
    },
  };
}

/** What is logged meanwhile says whose it is. */
async function subjectOfMove(records: Pick<Records, 'move'>, { moveId, operationId }: MoveJob): Promise<Subject> {
  const subject = { operation: operationId, move: moveId };
  const record = await records.move(moveId).catch(() => null);
  return record === null ? subject : { ...subject, vm: record.vm, attempt: record.attempt };
}

/** What guests are throttled with is started before it is needed, and what is wrong with it said. Nothing waits for it. */
function warm({ throttleOf, log }: Site, hosts: readonly string[]): void {
  for (const host of hosts) {
    throttleOf(host)
      .unavailable(host)
      .then((reason) => {
        if (reason !== null) log.warn({ host, code: reason.code }, reason.message);
      })
      .catch((error: unknown) => log.debug({ err: error, host }, 'whether guests can be throttled is not known yet'));
  }
}

function migrationDeps(site: Site): MigrationDeps {
  const { clock, fleet, policies, stores, budget, hypervisorOf, throttleOf, log, observer } = site;
  const names = fleet.hosts.map(({ name }) => name);
  return {
    clock,
    hypervisorOf,
    throttleOf,
    budget,
    abandoned: stores.abandoned,
    servedHosts: async () => (await stores.presence.alive()).flatMap(({ hosts }) => hosts),
    runningAt: (vm, uuid) => stores.presence.runningAt(names, vm, uuid),
    claimedBy: async (vm) => holderOf(await stores.claims.read(), vm),
    behaviours: policies.behaviours,
    capacityOf: (host) => {
      const spec = hostOf(fleet, host);
      return { egress: spec?.egress ?? 0, ingress: spec?.ingress ?? 0 };
    },
    leases: stores.leases,
    records: stores.records,
    events: stores.events,
    wakeups: stores.wakeups,
    endProcess,
    wakeOperation: (id) => stores.delivery.wakeOperation(id),
    hostsChanged: () => stores.wakeups.wake(INVENTORY_TOPIC),
    onTransition: (transition) => {
      const { moveId: move, operationId: operation, vm, attempt, from, cause, to, reason } = transition;
      observer.transition(transition);
      if (cause === 'leaseLost') observer.leaseLost('vm');
      log.info({ operation, move, vm, attempt, from, cause, to, reason: reason?.message }, `${vm}: ${from} -> ${to}`);
    },
    onVerdict: observer.verdict,
  };
}
