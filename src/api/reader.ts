/**
 * What many clients read: hosts, VMs, operations and migrations, read once for all who ask within a moment, and kept as the
 * JSON that is sent. A page of a dashboard costs one look at Redis, not one for each client.
 */

import { HostevacError } from '../domain/errors.ts';
import {
  currentMoveIds,
  ENDED_OPERATION_STATES,
  type MoveRecord,
  type OperationRecord,
  type OperationState,
} from '../domain/operation.ts';
import { operationResult } from '../operations/result.ts';
import type { VmStatus } from '../queue/producer.ts';
import type { Backend } from './backend.ts';
import { Cached, CachedByKey } from './cache.ts';
import { etaOf } from './eta.ts';
import type { Host, Vm } from './schemas/fleet.ts';
import { migrationOf } from './schemas/migrations.ts';
import { type Operation, operationOf, summaryOf } from './schemas/operations.ts';

/** How old an answer may be (real ms). Hosts are looked at every 2 s. */
const FLEET_MS = 1_500;
const OPERATIONS_MS = 500;

interface Hosts {
  readonly items: readonly Host[];
  readonly byName: ReadonlyMap<string, Host>;
  readonly nowMs: number;
  readonly json: string;
}

interface Vms {
  readonly items: readonly Vm[];
  readonly byHost: ReadonlyMap<string, readonly Vm[]>;
  readonly byName: ReadonlyMap<string, Vm>;
}

interface PageKey {
  readonly limit: number;
  readonly before?: string;
  readonly states?: readonly OperationState[];
}

export class Reader {
  readonly #backend: Backend;
  readonly #fleet: Cached<{ readonly hosts: Hosts; readonly vms: Vms }>;
  readonly #pages: CachedByKey<string>;
  readonly #operations: CachedByKey<string>;
  readonly #migrations: CachedByKey<string>;

  constructor(backend: Backend) {
    this.#backend = backend;
    this.#fleet = new Cached(FLEET_MS, () => this.#readFleet());
    this.#pages = new CachedByKey(OPERATIONS_MS, (key) => this.#readPage(JSON.parse(key)));
    this.#operations = new CachedByKey(OPERATIONS_MS, async (id) => JSON.stringify(await this.operation(id)));
    this.#migrations = new CachedByKey(OPERATIONS_MS, (id) => this.#readMigrations(id));
  }

  async hosts(): Promise<Hosts> {
    return (await this.#fleet.get()).hosts;
  }

  async vms(): Promise<Vms> {
    return (await this.#fleet.get()).vms;
  }

  /** A page of summaries, as JSON. */
  operationsJson(page: PageKey): Promise<string> {
    return this.#pages.get(JSON.stringify(page));
  }

  /** Throws `unknownOperation`. */
  operationJson(id: string): Promise<string> {
    return this.#operations.get(id);
  }

  /** All migrations of an operation, as JSON. Throws `unknownOperation`. */
  migrationsJson(id: string): Promise<string> {
    return this.#migrations.get(id);
  }

  /** Somebody has changed something: what is read next is read anew. */
  changed(): void {
    this.#fleet.drop();
    this.#pages.drop();
    this.#operations.drop();
    this.#migrations.drop();
  }

  /** These operations have changed by themselves. */
  operationsChanged(ids: readonly string[]): void {
    this.#pages.drop();
    for (const id of ids) {
      this.#operations.drop(id);
      this.#migrations.drop(id);
    }
  }

  async operation(id: string): Promise<Operation> {
    const handle = await this.#backend.producer.operation(id);
    const record = await handle.record();
    const [moves, nowMs] = await Promise.all([this.#movesOf(currentMoveIds(record)), this.#backend.producer.now()]);
    const ended = ENDED_OPERATION_STATES.has(record.state);
    const result = ended ? operationResult(record, moves, nowMs) : null;
    return operationOf(record, { result, nowMs, etaMs: ended ? null : await this.#eta(record, moves, nowMs) });
  }

  async #eta(record: OperationRecord, moves: readonly MoveRecord[], nowMs: number): Promise<Operation['etaMs']> {
    // Nobody else has one.
    if (record.state !== 'running') return null;
    const { byName } = await this.vms();
    return etaOf(record, moves, (vm) => byName.get(vm)?.memoryBytes ?? null, nowMs);
  }

  /** Throws `unknownMigration`. */
  async move(id: string): Promise<MoveRecord> {
    const [move] = await this.#movesOf([id]);
    if (move === undefined) {
      throw new HostevacError(
        'unknownMigration',
        `there is no migration ${JSON.stringify(id)}, or its record has expired; an operation's are at /v1/operations/<id>/migrations`,
      );
    }
    return move;
  }

  async #movesOf(ids: readonly string[]): Promise<MoveRecord[]> {
    return (await this.#backend.stores.records.moves(ids)).filter((move) => move !== null);
  }

  async #readMigrations(id: string): Promise<string> {
    const record = await (await this.#backend.producer.operation(id)).record();
    const current = currentMoveIds(record);
    const earlier = record.tasks.flatMap((task) => task.moveIds.slice(0, -1).toReversed());
    const [moves, nowMs] = await Promise.all([this.#movesOf([...current, ...earlier]), this.#backend.producer.now()]);
    return JSON.stringify({ items: moves.map(migrationOf), nowMs });
  }

  async #readPage(page: PageKey): Promise<string> {
    const records = await this.#backend.producer.operations(page);
    const next = records.length < page.limit ? null : (records.at(-1)?.id ?? null);
    return JSON.stringify({ items: records.map(summaryOf), next });
  }

  async #readFleet(): Promise<{ readonly hosts: Hosts; readonly vms: Vms }> {
    const { producer, fleet } = this.#backend;
    const [found, nowMs] = await Promise.all([producer.fleet(), producer.now()]);
    const specs = new Map(fleet.hosts.map((host) => [host.name, host]));
    const items = found.hosts.map((host): Host => {
      const spec = specs.get(host.host);
      return { ...host, cpus: spec?.cpus ?? 0, links: [...(spec?.links ?? [])] };
    });
    const byName = new Map(items.map((host) => [host.host, host]));
    const hosts = { items, byName, nowMs, json: JSON.stringify({ items, nowMs }) };
    return { hosts, vms: indexed(found.vms) };
  }
}

/** Where it runs rather than where it is otherwise, for those who name a VM only. */
const TELLING: readonly Vm['state'][] = ['running', 'paused', 'shutOff', 'postMigrate', 'incoming'];

function indexed(items: readonly VmStatus[]): Vms {
  const byHost = new Map<string, Vm[]>();
  const byName = new Map<string, Vm>();
  for (const vm of items) {
    const there = byHost.get(vm.host);
    if (there === undefined) byHost.set(vm.host, [vm]);
    else there.push(vm);
    const known = byName.get(vm.vm);
    if (known === undefined || TELLING.indexOf(vm.state) < TELLING.indexOf(known.state)) byName.set(vm.vm, vm);
  }
  return { items, byHost, byName };
}
