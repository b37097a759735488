/** The producer: checks and keeps requests, reads what became of them, sets flags. Carries nothing out itself. */
import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { AdoptedClock } from '../clock/adopted-clock.ts';
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { ENDED_OPERATION_STATES, type OperationRecord } from '../domain/operation.ts';
import { operationId } from '../domain/operation-id.ts';
import type { EvacuateNodeInput, LoadBalanceInput } from '../domain/request.ts';
import { noticeMs } from '../domain/webhook.ts';
import { known } from '../operations/control.ts';
import { type FleetView, readFleet } from '../operations/fleet-view.ts';
import {
  balance,
  evacuation,
  goesOnOtherwise,
  type Intake,
  type KnownNames,
  sentence,
  unknownName,
} from '../operations/intake.ts';
import { preview } from '../operations/preview.ts';
import { seenVms } from '../operations/vms.ts';
import { type LoadedPolicies, PRESETS_ONLY } from '../runtime/policy-modules.ts';
import { openRedis, redisTarget } from '../runtime/redis-connection.ts';
import { fleetPrefix, type PublishedFleet, Stores } from '../runtime/stores.ts';
import { type ClaimsState, isCordoned } from '../store/claims.ts';
import type { StoredEvent } from '../store/event-log.ts';
import type { OperationsPage } from '../store/records.ts';
import { type CapacityInput, overrideOf, setCapacity } from './capacity.ts';
import { Handle } from './operation-handle.ts';
import type {
  ControlOutcome,
  HostStatus,
  OperationHandle,
  PlanPreview,
  Producer,
  ProducerOptions,
  VmStatus,
  WhatIfAnswer,
} from './producer.ts';
import { askWhatIf, type WhatIfInput } from './what-if.ts';

/** One that is being cancelled is looked at this often (real ms). */
const LOOK_AGAIN_MS = 250;
const EVENTS_WAIT_MS = 2_000;
/** An evacuation that is being cancelled is waited for this long before a new one of its host is refused. */
const ENDING_PATIENCE_MS = 15_000;

/** Opens a producer. Throws `redisAway` when Redis does not answer; close it when done. */
export async function createProducer(options: ProducerOptions): Promise<Producer> {
  const target = redisTarget(options.connection);
  const redis = await openRedis(target, 'producer');
  try {
    const prefix = fleetPrefix(options.fleet?.name ?? options.fleetName ?? 'default');
    const clock = new AdoptedClock();
    const { telemetry } = options;
    const openSubscriber = (): Promise<Redis> => openRedis(target, 'subscriber');
    const stores = new Stores({ redis, prefix, clock, openSubscriber, telemetry });
    const producer = new RedisProducer({
      redis,
      clock,
      stores,
      fleet: options.fleet ?? null,
      policies: options.policies ?? PRESETS_ONLY,
    });
    await producer.learnFleet();
    return producer;
  } catch (error) {
    redis.disconnect();
    throw error;
  }
}

class RedisProducer implements Producer {
  readonly #redis: Redis;
  readonly #stores: Stores;
  readonly #fleet: Fleet | null;
  readonly #policies: LoadedPolicies;
  readonly #clock: AdoptedClock;
  #published: PublishedFleet | null = null;

  constructor(given: {
    redis: Redis;
    clock: AdoptedClock;
    stores: Stores;
    fleet: Fleet | null;
    policies: LoadedPolicies;
  }) {
    this.#policies = given.policies;
    this.#redis = given.redis;
    this.#clock = given.clock;
    this.#stores = given.stores;
    this.#fleet = given.fleet;
  }

  /** The fleet's names and time, once a worker has published them. Until then times are left for that worker to set. */
  async learnFleet(): Promise<PublishedFleet | null> {
    if (this.#published === null) {
      this.#published = await this.#stores.publishedFleet.read();
      if (this.#published !== null) this.#clock.adopt(this.#published);
    }
    return this.#published;
  }

  async evacuateNode(input: EvacuateNodeInput): Promise<OperationHandle> {
    return this.#accept(evacuation(input, await this.#names()), 'ev');
  }

  async loadBalance(input: LoadBalanceInput): Promise<OperationHandle> {
    return this.#accept(balance(input, await this.#names()), 'lb');
  }

  async #accept(intake: Intake, kind: 'ev' | 'lb'): Promise<OperationHandle> {
    const { request, idempotencyKey, warnings } = intake;
    const began = performance.now();
    for (;;) {
      const id = operationId(kind, Date.now(), randomBytes(3).toString('hex'));
      const createdAtMs = (await this.learnFleet()) === null ? 0 : this.#clock.now();
      const creation = await this.#stores.records.create({ id, request, createdAtMs, idempotencyKey });
      const joined = creation.acceptance === 'joined' ? await this.#stores.records.operation(creation.id) : null;
      if (joined !== null && ENDED_OPERATION_STATES.has(joined.state)) {
        // It ended this instant, or its process died at its very end: this request is a new one.
        await this.#stores.records.retire(creation.id);
        continue;
      }
      if (creation.acceptance === 'joined' && (await this.#stores.records.control(creation.id)).cancel) {
        // It is on its way out; joining it would cancel this request too.
        if (performance.now() - began > ENDING_PATIENCE_MS) {
          throw new HostevacError(
            'cancelled',
            `An evacuation of this host (${creation.id}) is still being cancelled; try again when \`hostevac status ${creation.id}\` shows that it has ended`,
          );
        }
        await this.#stores.delivery.wakeOperation(creation.id);
        await this.#stores.clock.sleepReal(LOOK_AGAIN_MS);
        continue;
      }
      if (!(await this.#stores.delivery.hasOperation(creation.id))) await this.#enqueue(creation.id);
      const said = joined === null ? warnings : [...warnings, ...goesOnOtherwise(request, joined)];
      return new Handle(this.#stores, creation.id, { acceptance: creation.acceptance, warnings: said });
    }
  }

  /** Ended ones need no job. A crash before this line is mended by the operations worker, which looks for active ones without a job. */
  async #enqueue(id: string): Promise<void> {
    const record = await this.#stores.records.operation(id);
    if (record !== null && !ENDED_OPERATION_STATES.has(record.state)) await this.#stores.delivery.addOperation(id);
  }

  async preview(
    request: { evacuateNode: EvacuateNodeInput } | { loadBalance: LoadBalanceInput },
  ): Promise<PlanPreview> {
    const fleet = this.#requireFleet('A preview');
    const names = await this.#names();
    const intake =
      'evacuateNode' in request ? evacuation(request.evacuateNode, names) : balance(request.loadBalance, names);
    const view = await readFleet({ clock: this.#stores.clock, fleet, presence: this.#stores.presence });
    const plan = preview(fleet, view, await this.#stores.claims.read(), intake.request);
    return { ...plan, warnings: intake.warnings };
  }

  async whatIf(input: WhatIfInput, options?: Parameters<Producer['whatIf']>[1]): Promise<WhatIfAnswer> {
    const fleet = this.#requireFleet('what-if');
    await this.learnFleet();
    return askWhatIf({ fleet, stores: this.#stores, ...this.#policies }, input, options);
  }

  async operation(id: string): Promise<OperationHandle> {
    await known({ records: this.#stores.records }, id);
    return new Handle(this.#stores, id, { acceptance: 'repeated', warnings: [] });
  }

  operations(which: number | OperationsPage = 50): Promise<OperationRecord[]> {
    const { records } = this.#stores;
    return typeof which === 'number' ? records.recentOperations(which) : records.operationsPage(which);
  }

  async *fleetEvents(
    options: { readonly after?: string; readonly signal?: AbortSignal } = {},
  ): AsyncIterable<StoredEvent> {
    const { events } = this.#stores;
    let after = options.after ?? (await events.lastOfFleet());
    for (;;) {
      const read = await events.readFleet(after, EVENTS_WAIT_MS, options.signal);
      if (options.signal?.aborted === true) return;
      for (const event of read) {
        after = event.streamId;
        yield event;
      }
    }
  }

  async hosts(): Promise<HostStatus[]> {
    return (await this.#seen()).hosts;
  }

  async fleet(): Promise<{ readonly hosts: HostStatus[]; readonly vms: VmStatus[] }> {
    const { hosts, view, claims } = await this.#seen();
    return {
      hosts,
      vms: seenVms(
        [...view.hosts.values()].map(({ inventory }) => inventory),
        claims,
      ),
    };
  }

  async #seen(): Promise<{ readonly hosts: HostStatus[]; readonly view: FleetView; readonly claims: ClaimsState }> {
    const fleet = this.#requireFleet('Showing hosts');
    await this.learnFleet();
    const budget = this.#stores.budget(fleet);
    const [view, claims, use, overrides, { down }] = await Promise.all([
      readFleet({ clock: this.#stores.clock, fleet, presence: this.#stores.presence }),
      this.#stores.claims.read(),
      budget.use(),
      budget.overridesOf(fleet.hosts.map(({ name }) => name)),
      this.#stores.abandoned.read(),
    ]);
    const usedBy = new Map(use.map((one) => [one.host, one]));
    const hosts = fleet.hosts.map((host, index): HostStatus => {
      const seen = view.hosts.get(host.name);
      const inventory = seen?.inventory ?? null;
      const present = inventory?.vms.filter((vm) => vm.state !== 'shutOff') ?? [];
      const used = usedBy.get(host.name);
      return {
        host: host.name,
        inventoryAgeMs: inventory === null ? null : Math.max(0, view.atMs - inventory.takenAtMs),
        served: seen?.served ?? false,
        cordoned: isCordoned(claims, host.name),
        down: Object.hasOwn(down, host.name),
        runningVms: present.filter((vm) => vm.state === 'running' || vm.state === 'paused').length,
        memoryBytes: host.memory,
        memoryUsedBytes: present.reduce((sum, vm) => sum + vm.memoryBytes, 0),
        egress: used?.egress ?? { capacity: host.egress, counted: 0 },
        ingress: used?.ingress ?? { capacity: host.ingress, counted: 0 },
        capacityOverride: overrideOf(overrides[index] ?? { egress: null, ingress: null }),
      };
    });
    return { hosts, view, claims };
  }

  async vms(): Promise<VmStatus[]> {
    const hosts = (await this.#hostNames()) ?? [];
    const [inventories, claims] = await Promise.all([
      this.#stores.presence.inventories(hosts),
      this.#stores.claims.read(),
    ]);
    return seenVms(inventories, claims);
  }

  async capacity(host: string, capacity: CapacityInput | null, by: string): Promise<ControlOutcome> {
    const fleet = this.#requireFleet('Capacity');
    await this.#mustKnow(host);
    await this.learnFleet();
    return setCapacity(this.#stores.budget(fleet), host, { capacity, by, atMs: this.#stores.clock.now() });
  }

  async hasWorkers(): Promise<boolean> {
    return (await this.#stores.presence.alive()).some((worker) => worker.operations);
  }

  async cordon(host: string): Promise<ControlOutcome> {
    await this.#mustKnow(host);
    const changed = await this.#stores.claims.cordon(host, 'operator');
    return { changed, message: changed ? `${host} is cordoned: no VM is placed there` : `${host} is already cordoned` };
  }

  async uncordon(host: string): Promise<ControlOutcome> {
    await this.#mustKnow(host);
    const changed = await this.#stores.claims.uncordon(host, 'operator');
    const still = isCordoned(await this.#stores.claims.read(), host)
      ? '; it stays cordoned while it is being evacuated'
      : '';
    return {
      changed,
      message: (changed ? `${host} takes VMs again` : `${host} is not cordoned by an operator`) + still,
    };
  }

  async confirmDown(host: string, by: string): Promise<ControlOutcome> {
    const fleet = this.#requireFleet('Confirming');
    await this.#mustKnow(host);
    await this.learnFleet();
    const view = await readFleet({ clock: this.#stores.clock, fleet, presence: this.#stores.presence });
    const seen = view.hosts.get(host);
    if (seen?.unusable === null || (seen?.served === true && seen.inventory === null)) {
      const what =
        seen.inventory === null
          ? 'is about to be looked at for the first time'
          : 'answers: its VMs were seen a moment ago';
      const message = `${host} ${what}. Nothing was changed. Fence it first (power it off), or evacuate it`;
      throw new HostevacError('hostAnswers', message);
    }
    const changed = await this.#stores.abandoned.confirmDown(host, by, this.#stores.clock.now());
    const done = `${host} is taken for down: bandwidth that is counted for it is given back, and what waits for it ends`;
    return { changed, message: changed ? done : `${host} has been confirmed down already` };
  }

  async now(): Promise<number> {
    await this.learnFleet();
    return this.#stores.clock.now();
  }

  async close(): Promise<void> {
    await this.#stores.close();
    this.#redis.disconnect();
  }

  /** `what`: that which needs it, as a sentence begins. Throws `fleetFileMissing`. */
  #requireFleet(what: string): Fleet {
    if (this.#fleet !== null) return this.#fleet;
    throw new HostevacError('fleetFileMissing', `${what} needs the fleet file; give \`fleet\` to createProducer`);
  }

  async #mustKnow(host: string): Promise<void> {
    const fault = unknownName('host', host, 'host', await this.#hostNames());
    if (fault !== null) throw new HostevacError('unknownHost', sentence(fault), { problems: [fault] });
  }

  /** null: no worker has told yet, and no fleet was given. */
  async #hostNames(): Promise<readonly string[] | null> {
    const published = await this.learnFleet();
    return this.#fleet?.hosts.map((host) => host.name) ?? published?.hosts ?? null;
  }

  async #names(): Promise<KnownNames> {
    const hosts = await this.#hostNames();
    const policies = this.#policies.catalogue;
    const notice = noticeMs(this.#fleet?.webhooks ?? []);
    if (hosts === null) return { hosts, vms: null, vmsOn: new Map(), policies };
    const inventories = await this.#stores.presence.inventories(hosts);
    const vmsOn = new Map(
      inventories.flatMap((inventory) =>
        inventory === null || inventory.unreachable !== null
          ? []
          : [[inventory.host, inventory.vms.map((vm) => vm.name)] as const],
      ),
    );
    return {
      hosts,
      vms: vmsOn.size === hosts.length ? [...vmsOn.values()].flat() : null,
      vmsOn,
      policies,
      noticeMs: notice,
    };
  }
}
