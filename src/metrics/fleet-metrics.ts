/**
 * What the whole fleet does, from what its processes keep in Redis: looked at when somebody asks for the page (at most once a
 * second), and now and then in between, so that no end is missed. Labels are hosts, states and kinds, never VMs.
 */

import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Budget } from '../bandwidth/budget.ts';
import { LOUDEST } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import {
  ENDED_MOVE_STATES,
  ENDED_OPERATION_STATES,
  GONE_MOVE_STATES,
  type MoveRecord,
  moveStates,
  operationStates,
} from '../domain/operation.ts';
import type { Stores } from '../runtime/stores.ts';
import { isCordoned } from '../store/claims.ts';
import { writtenAtMs } from '../store/event-log.ts';
import type { WorkerPresence } from '../store/presence.ts';
import { Ended, type EndedMove, type Look } from './ended.ts';

export interface FleetSource {
  readonly fleet: Fleet;
  readonly stores: Pick<Stores, 'records' | 'presence' | 'claims' | 'clock' | 'webhookCursors'> & {
    readonly events: Pick<Stores['events'], 'firstOfFleet'>;
    readonly delivery: Pick<Stores['delivery'], 'depths'>;
    budget(fleet: Fleet): Pick<Budget, 'use'>;
  };
}

const COUNTED =
  'Counted by this process from the records in Redis since it started, whoever carried it out: every process that shows this counts the whole fleet, so do not add up instances.';
const FLEET_TIME = 'Fleet time.';

const SECONDS = [0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 3_600];
const DOWNTIME_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 1, 2, 5, 10, 30];
const CPU_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1_000];
const BYTES = [16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576].map((mib) => mib * 1_048_576);
const RATIOS = [0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5];

const ACTIVE_OPERATION_STATES = operationStates.filter((state) => !ENDED_OPERATION_STATES.has(state));
const ACTIVE_MOVE_STATES = moveStates.filter((state) => !ENDED_MOVE_STATES.has(state));
/** In these its hypervisor sends for it. */
const SENDING: ReadonlySet<string> = new Set(['precopy', 'switchover', 'postcopy']);

export class FleetMetrics {
  readonly #source: FleetSource;
  readonly #budget: Pick<Budget, 'use'>;
  readonly #ended: Ended;
  readonly #gauges: ReturnType<typeof gauges>;
  readonly #counted: ReturnType<typeof counted>;

  constructor(registry: Registry, source: FleetSource) {
    this.#source = source;
    this.#budget = source.stores.budget(source.fleet);
    this.#ended = new Ended(source.stores.records);
    this.#gauges = gauges(registry);
    this.#counted = counted(registry);
  }

  /** Throws what Redis throws. */
  async look(): Promise<void> {
    const began = performance.now();
    try {
      await this.#look();
      this.#gauges.success.set(1);
    } finally {
      this.#gauges.took.set((performance.now() - began) / 1_000);
    }
  }

  /** What is gauged is not known now, and shown no more; what was counted stays. */
  unknown(): void {
    for (const gauge of this.#gauges.ofFleet) gauge.reset();
    this.#gauges.success.set(0);
  }

  async #look(): Promise<void> {
    const { fleet, stores } = this.#source;
    const hosts = fleet.hosts.map(({ name }) => name);
    const claims = await stores.claims.read();
    // Of a thousand hosts few have moves: the queues of the others are not asked.
    const sources = new Set(Object.values(claims.reservations).map(({ source, host }) => source ?? host));
    const [use, workers, inventories, depths, lags] = await Promise.all([
      this.#budget.use(),
      stores.presence.alive(),
      stores.presence.inventories(hosts),
      stores.delivery.depths(hosts.filter((host) => sources.has(host))),
      Promise.all(fleet.webhooks.map(({ name }) => lagOf(name, stores))),
    ]);
    // Last: what it has told of an end it tells once, and from here on nothing can fail.
    const look = await this.#ended.look();
    const g = this.#gauges;
    for (const gauge of g.ofFleet) gauge.reset();
    this.#show(look);
    const sending = look.moves.filter(({ state }) => SENDING.has(state));
    const rates = { egress: ratesBy('source', sending), ingress: ratesBy('destination', sending) };
    for (const { host, ...lanes } of use) {
      for (const direction of ['egress', 'ingress'] as const) {
        g.capacity.set({ host, direction }, lanes[direction].capacity);
        g.granted.set({ host, direction }, lanes[direction].counted);
        g.used.set({ host, direction }, rates[direction].get(host) ?? 0);
      }
    }
    for (const [kind, states] of Object.entries(depths)) {
      for (const [state, jobs] of Object.entries(states)) g.jobs.set({ queue: kind, state }, jobs);
    }
    for (const [index, { name: endpoint }] of fleet.webhooks.entries()) {
      const lag = lags[index] ?? null;
      if (lag !== null) g.webhookLag.set({ endpoint }, lag);
    }
    const now = Date.now();
    const ageOf = (beatAtMs: number): number => Math.max(0, now - beatAtMs) / 1_000;
    g.workers.set({ role: 'operations' }, workers.filter(({ operations }) => operations).length);
    g.workers.set({ role: 'migrations' }, workers.filter((worker) => worker.hosts.length > 0).length);
    const beats = latestBeats(workers);
    if (beats.operations !== null) g.operationsHeartbeat.set(ageOf(beats.operations));
    const shares = throttledShares(look.moves);
    const fleetNow = stores.clock.now();
    for (const [index, host] of hosts.entries()) {
      const beatAtMs = beats.hosts.get(host);
      g.served.set({ host }, beatAtMs === undefined ? 0 : 1);
      g.cordoned.set({ host }, isCordoned(claims, host) ? 1 : 0);
      if (beatAtMs != null) g.hostHeartbeat.set({ host }, ageOf(beatAtMs));
      const inventory = inventories[index] ?? null;
      if (inventory !== null) {
        g.inventoryAge.set({ host }, Math.max(0, fleetNow - inventory.takenAtMs) / 1_000);
        g.vms.set({ host }, inventory.vms.filter(({ state }) => state === 'running' || state === 'paused').length);
      }
      const there = shares.get(host) ?? [];
      g.throttled.set({ host }, there.length);
      g.leastShare.set({ host }, Math.min(1, ...there));
    }
  }

  #show({ active, moves, endedOperations, endedMoves, endangered }: Look): void {
    const g = this.#gauges;
    for (const state of ACTIVE_OPERATION_STATES) {
      g.operations.set({ state }, active.filter((one) => one.state === state).length);
    }
    for (const state of ACTIVE_MOVE_STATES)
      g.migrations.set({ state }, moves.filter((one) => one.state === state).length);
    for (const { request, state } of endedOperations)
      this.#counted.operations.inc({ kind: request.kind, outcome: state });
    for (const one of endedMoves) this.#count(one);
    for (const { operation, reason } of endangered)
      this.#counted.endangered.inc({ kind: operation.request.kind, reason });
  }

  #count({ move, operation }: EndedMove): void {
    const c = this.#counted;
    const outcome = move.state;
    c.moves.inc({ kind: operation.request.kind, move: move.kind, outcome, reason: reasonOf(move) });
    if (move.kind !== 'migration' || move.startedAtMs === null) return;
    const { totalMs, downtimeMs, harmCpuMs, transferredBytes } = move.figures;
    c.duration.observe({ outcome }, totalMs / 1_000);
    c.harm.observe({ outcome }, harmCpuMs / 1_000);
    c.transferred.observe({ outcome }, transferredBytes);
    if (outcome !== 'done') return;
    c.downtime.observe(downtimeMs / 1_000);
    const { predicted } = move;
    if (predicted === null) return;
    const ratio = (figure: string, actual: number, median: number): void => {
      if (median > 0) c.error.observe({ figure }, Math.abs(actual - median) / median);
    };
    ratio('total', totalMs, predicted.totalMs.value);
    ratio('downtime', downtimeMs, predicted.downtimeMs.value);
    c.harmError.observe(Math.abs(harmCpuMs - predicted.harmCpuMs.value) / 1_000);
  }
}

function reasonOf(move: MoveRecord): string {
  return GONE_MOVE_STATES.has(move.state) ? '' : (move.reason?.code ?? '');
}

/** How old the first event is that a receiver has not been told of, in seconds; null: it has not been told of any. */
async function lagOf(
  webhook: string,
  { events, webhookCursors }: Pick<FleetSource['stores'], 'events' | 'webhookCursors'>,
): Promise<number | null> {
  const after = await webhookCursors.read(webhook);
  if (after === null) return null;
  const next = await events.firstOfFleet(after);
  return next === null ? 0 : Math.max(0, Date.now() - writtenAtMs(next)) / 1_000;
}

/** Bytes per second, by host at that end. */
function ratesBy(end: 'source' | 'destination', sending: readonly MoveRecord[]): Map<string, number> {
  const rates = new Map<string, number>();
  for (const { [end]: host, progress } of sending) {
    rates.set(host, (rates.get(host) ?? 0) + (progress?.rateBytesPerSec ?? 0));
  }
  return rates;
}

/** The shares of the guests that are throttled, by source. */
function throttledShares(moves: readonly MoveRecord[]): Map<string, number[]> {
  const shares = new Map<string, number[]>();
  for (const { source, state, progress } of moves) {
    if (state !== 'precopy' || progress === null || progress.share >= 1) continue;
    shares.set(source, [...(shares.get(source) ?? []), progress.share]);
  }
  return shares;
}

/** The latest beat of those who carry out operations, and of those who serve each host; null: they tell none. */
function latestBeats(workers: readonly WorkerPresence[]): {
  readonly operations: number | null;
  readonly hosts: ReadonlyMap<string, number | null>;
} {
  const later = (one: number | null, other: number | null): number | null =>
    one === null ? other : other === null ? one : Math.max(one, other);
  let operations: number | null = null;
  const hosts = new Map<string, number | null>();
  for (const worker of workers) {
    const beatAtMs = worker.about?.beatAtMs ?? null;
    if (worker.operations) operations = later(operations, beatAtMs);
    for (const host of worker.hosts) hosts.set(host, later(hosts.get(host) ?? null, beatAtMs));
  }
  return { operations, hosts };
}

function gauges(registry: Registry) {
  const ofFleet: Gauge[] = [];
  const gauge = <L extends string>(name: string, help: string, ...labelNames: L[]): Gauge<L> => {
    const made = new Gauge<L>({ name, help, labelNames, registers: [registry] });
    ofFleet.push(made as unknown as Gauge);
    return made;
  };
  const made = {
    operations: gauge('hostevac_operations', 'Operations that have not ended, by state.', 'state'),
    migrations: gauge(
      'hostevac_migrations',
      'Current moves (of VMs) of operations that have not ended, by state.',
      'state',
    ),
    capacity: gauge(
      'hostevac_bandwidth_capacity_bytes_per_second',
      'What all migrations out of (egress) or into (ingress) a host may use together now.',
      'host',
      'direction',
    ),
    granted: gauge(
      'hostevac_bandwidth_granted_bytes_per_second',
      'What migrations may use or may still be using: the greater of the grant and what was last known to be in force.',
      'host',
      'direction',
    ),
    used: gauge(
      'hostevac_bandwidth_used_bytes_per_second',
      'What migrations send, as their workers saw it last.',
      'host',
      'direction',
    ),
    jobs: gauge(
      'hostevac_queue_jobs',
      'Jobs in the queue of operations, and in those of all hosts that moves are to leave, together.',
      'queue',
      'state',
    ),
    workers: gauge('hostevac_workers', 'Processes with a heartbeat, by role; one may have both.', 'role'),
    operationsHeartbeat: gauge(
      'hostevac_operations_heartbeat_age_seconds',
      'Age of the youngest heartbeat of a worker that carries out operations; absent where there is none.',
    ),
    hostHeartbeat: gauge(
      'hostevac_host_heartbeat_age_seconds',
      'Age of the youngest heartbeat of a worker that serves the host; absent where there is none.',
      'host',
    ),
    served: gauge('hostevac_host_served', '1: a worker with a heartbeat serves the host.', 'host'),
    cordoned: gauge('hostevac_host_cordoned', '1: no VM is placed on the host.', 'host'),
    inventoryAge: gauge(
      'hostevac_host_inventory_age_seconds',
      `Age of what is known of the host's VMs. ${FLEET_TIME}`,
      'host',
    ),
    vms: gauge('hostevac_host_vms', 'VMs that were last seen running or paused on the host.', 'host'),
    throttled: gauge(
      'hostevac_host_vms_throttled',
      'VMs of the host whose CPU is held back for their migration.',
      'host',
    ),
    leastShare: gauge(
      'hostevac_host_least_cpu_share_ratio',
      'Least share of its CPU demand that a migrating VM of the host is allowed now; 1: none is held back.',
      'host',
    ),
    webhookLag: gauge(
      'hostevac_webhook_lag_seconds',
      "Age of the first event that a webhook's receiver has not been told of yet; 0: it knows all.",
      'endpoint',
    ),
  };
  const success = new Gauge({
    name: 'hostevac_fleet_look_success',
    help: '1: the last look at the records in Redis succeeded. 0: it failed, and gauges of the fleet are not shown.',
    registers: [registry],
  });
  const took = new Gauge({
    name: 'hostevac_fleet_look_duration_seconds',
    help: 'How long the last look at the records took.',
    registers: [registry],
  });
  return { ...made, ofFleet, success, took };
}

function counted(registry: Registry) {
  const registers = [registry];
  const histogram = <L extends string>(
    name: string,
    help: string,
    buckets: number[],
    ...labelNames: L[]
  ): Histogram<L> => new Histogram<L>({ name, help: `${help} ${COUNTED}`, buckets, labelNames, registers });
  const operations = new Counter({
    name: 'hostevac_operations_ended_total',
    help: `Operations that ended, by kind of request and how. ${COUNTED}`,
    labelNames: ['kind', 'outcome'],
    registers,
  });
  for (const kind of ['evacuateNode', 'loadBalance']) {
    for (const outcome of ENDED_OPERATION_STATES) operations.inc({ kind, outcome }, 0);
  }
  const moves = new Counter({
    name: 'hostevac_moves_ended_total',
    help: `Attempts to move a VM (or to shut one down that cannot be moved) that ended, by kind of request, how, and the code of the reason. ${COUNTED}`,
    labelNames: ['kind', 'move', 'outcome', 'reason'],
    registers,
  });
  for (const kind of ['evacuateNode', 'loadBalance']) {
    moves.inc({ kind, move: 'migration', outcome: 'done', reason: '' }, 0);
    // A series that appears with its first event hides that event from increase(), and these must not be missed.
    for (const reason of LOUDEST) moves.inc({ kind, move: 'migration', outcome: 'failed', reason }, 0);
  }
  const endangered = new Counter({
    name: 'hostevac_vms_endangered_total',
    help: `VMs whose part in an operation ended with one of the reasons after which somebody must look, whether or not a move was made. ${COUNTED}`,
    labelNames: ['kind', 'reason'],
    registers,
  });
  for (const kind of ['evacuateNode', 'loadBalance']) {
    for (const reason of LOUDEST) endangered.inc({ kind, reason }, 0);
  }
  return {
    operations,
    moves,
    endangered,
    duration: histogram(
      'hostevac_migration_duration_seconds',
      `From a migration's start to its end, of migrations that had begun. ${FLEET_TIME}`,
      SECONDS,
      'outcome',
    ),
    downtime: histogram(
      'hostevac_migration_downtime_seconds',
      `How long the guest stood still, of migrations that are done. ${FLEET_TIME}`,
      DOWNTIME_SECONDS,
    ),
    harm: histogram(
      'hostevac_migration_harm_cpu_seconds',
      'CPU time that the guest wanted and did not get, downtime included, of migrations that had begun.',
      CPU_SECONDS,
      'outcome',
    ),
    transferred: histogram(
      'hostevac_migration_transferred_bytes',
      'Bytes sent, of migrations that had begun.',
      BYTES,
      'outcome',
    ),
    error: histogram(
      'hostevac_prediction_error_ratio',
      'How far off the prediction before the start was, |actual - predicted| / predicted (medians), of migrations that are done.',
      RATIOS,
      'figure',
    ),
    harmError: histogram(
      'hostevac_prediction_error_harm_cpu_seconds',
      'How far off the predicted harm was, |actual - predicted| (medians), of migrations that are done.',
      CPU_SECONDS,
    ),
  };
}
