/** What one process counts of its own work, as it does it. Lost with the process, as Prometheus expects of counters. */
import { Counter, Histogram, type Registry } from 'prom-client';
import type { Observer } from '../runtime/observer.ts';

const DECISION_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
const TURN_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** The observer to give to a worker; what it sees is in `registry`. */
export function workerMetrics(registry: Registry): Observer {
  const registers = [registry];
  const transitions = new Counter({
    name: 'hostevac_worker_transitions_total',
    help: 'Transitions of migrations (docs/migration-states.md) that this process took since it started.',
    labelNames: ['from', 'cause', 'to'],
    registers,
  });
  const decisions = new Histogram({
    name: 'hostevac_decision_duration_seconds',
    help: 'Real time that a controller took for one decision about a running migration, by what it decided, in this process.',
    labelNames: ['action'],
    buckets: DECISION_SECONDS,
    registers,
  });
  const turns = new Histogram({
    name: 'hostevac_operation_turn_duration_seconds',
    help: 'Real time that one turn of an operation took (read, plan, dispatch), in this process.',
    buckets: TURN_SECONDS,
    registers,
  });
  const leases = new Counter({
    name: 'hostevac_leases_lost_total',
    help: 'Times that this process found that it held the lease of a VM or an operation no more while it was at work on it.',
    labelNames: ['of'],
    registers,
  });
  const faults = new Counter({
    name: 'hostevac_worker_faults_total',
    help: 'Times that work in this process was interrupted by something unexpected (Redis away, a fault of ours) and was looked at again.',
    labelNames: ['of'],
    registers,
  });
  const deliveries = new Counter({
    name: 'hostevac_webhook_requests_total',
    help: 'Requests to receivers of webhooks that this process made: delivered, to be retried, or given up (dropped).',
    labelNames: ['endpoint', 'outcome'],
    registers,
  });
  // A series that appears with its first event hides that event from rate().
  for (const of of ['vm', 'operation']) leases.inc({ of }, 0);
  for (const of of ['move', 'operation', 'queue']) faults.inc({ of }, 0);
  return {
    transition: ({ from, cause, to }) => transitions.inc({ from, cause, to }),
    verdict: ({ action, tookMs }) => decisions.observe({ action }, tookMs / 1_000),
    operationTurn: (tookMs) => turns.observe(tookMs / 1_000),
    leaseLost: (of) => leases.inc({ of }),
    fault: (of) => faults.inc({ of }),
    delivery: (one) => deliveries.inc({ ...one }),
  };
}
