/** A state directory with a fleet file, real processes of the built program in it, and eyes on the fleet that they run. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import type { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import { RealClock } from '../../src/clock/real-clock.ts';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import type { MoveRecord, OperationRecord } from '../../src/domain/operation.ts';
import type { State } from '../../src/hypervisors/simulated/model.ts';
import { RedisSimulationLog } from '../../src/hypervisors/simulated/redis-log.ts';
import { SimulatedFleet } from '../../src/hypervisors/simulated/simulated-fleet.ts';
import { openRedis, redisTarget } from '../../src/runtime/redis-connection.ts';
import { fleetPrefix, Stores } from '../../src/runtime/stores.ts';
import type { StoredEvent } from '../../src/store/event-log.ts';
import { Command, type Ended, userEnv } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';

const recordSchema = z.object({ pid: z.number(), socket: z.string() });
const acceptedSchema = z.object({ id: z.string() });

/** What a test sees of a fleet, through connections of its own. Ends with the Redis that it was opened on. */
export class Eyes {
  readonly fleet: SimulatedFleet;
  readonly stores: Stores;
  readonly budget: CellBudget;
  readonly #redis: Redis;
  readonly #prefix: string;

  private constructor(redis: Redis, prefix: string, stores: Stores, fleet: SimulatedFleet, budget: CellBudget) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.stores = stores;
    this.fleet = fleet;
    this.budget = budget;
  }

  static async open(socket: string, fleetText: string): Promise<Eyes> {
    const spec = parseFleet(fleetText, { format: 'yaml', name: 'fleet.yaml' });
    const target = redisTarget(socket);
    const redis = await openRedis(target, 'producer');
    const prefix = fleetPrefix(spec.name);
    const openSubscriber = (): Promise<Redis> => openRedis(target, 'subscriber');
    const stores = new Stores({ redis, prefix, clock: new RealClock(), openSubscriber });
    const fleet = new SimulatedFleet({ fleet: spec, log: new RedisSimulationLog({ redis, prefix, fleet: spec }) });
    return new Eyes(redis, prefix, stores, fleet, stores.budget(spec));
  }

  /** Pid of the process that holds the VM's lease, without asking for it ourselves; null: nobody does. */
  async driverOf(vm: string): Promise<number | null> {
    const owner = await this.#redis.hget(`${this.#prefix}:lease:vm:${vm}`, 'owner');
    return owner === null ? null : z.object({ pid: z.number() }).parse(JSON.parse(owner)).pid;
  }

  view(): Promise<State> {
    return this.fleet.view();
  }

  async operation(id: string): Promise<OperationRecord> {
    const record = await this.stores.records.operation(id);
    if (record === null) throw new Error(`no operation ${id}`);
    return record;
  }

  /** Every move that was ever made for the operation's VMs. */
  async moves(id: string): Promise<MoveRecord[]> {
    const { tasks } = await this.operation(id);
    const moves = await this.stores.records.moves(tasks.flatMap((task) => task.moveIds));
    return moves.filter((move) => move !== null);
  }

  events(id: string): Promise<StoredEvent[]> {
    return this.stores.events.read(id, '0', 0);
  }

  async close(): Promise<void> {
    await this.stores.close();
    this.#redis.disconnect();
  }
}

export class Place {
  readonly home = mkdtempSync(join(tmpdir(), 'hostevac-chaos-'));
  readonly #fleetText: string;
  readonly #started: Command[] = [];
  readonly #eyes: Eyes[] = [];

  constructor(fleetText: string) {
    this.#fleetText = fleetText;
    writeFileSync(join(this.home, 'fleet.yaml'), fleetText);
  }

  start(...args: string[]): Command {
    const command = new Command(args, { env: userEnv(this.home), cwd: this.home });
    this.#started.push(command);
    return command;
  }

  run(...args: string[]): Promise<Ended> {
    return this.start(...args).ended;
  }

  async startUp(): Promise<Command> {
    const up = this.start('up', '--port', '0');
    await up.says(/^http:\/\/127\.0\.0\.1:\d+\n/);
    return up;
  }

  /** Asks for an evacuation without waiting for it; its id. */
  async evacuate(host: string, ...options: string[]): Promise<string> {
    const ended = await this.run('evacuate', host, '-o', 'json', ...options);
    if (ended.code !== 0) throw new Error(`evacuate ended with ${ended.code}: ${ended.stdout}${ended.stderr}`);
    return acceptedSchema.parse(JSON.parse(ended.stdout)).id;
  }

  /** The embedded Redis on record. */
  redis(): z.infer<typeof recordSchema> {
    for (const name of readdirSync(this.home)) {
      if (!name.endsWith('.json')) continue;
      const record = recordSchema.safeParse(JSON.parse(readFileSync(join(this.home, name), 'utf8')));
      if (record.success) return record.data;
    }
    throw new Error('no record of the embedded Redis');
  }

  async eyes(): Promise<Eyes> {
    const eyes = await Eyes.open(this.redis().socket, this.#fleetText);
    this.#eyes.push(eyes);
    return eyes;
  }

  /** Every process that was started with this state directory and still runs; a zombie runs no more. */
  running(): string[] {
    return runningWith(this.home);
  }

  /** What all processes wrote, for a failure's message. */
  said(): string {
    return this.#started
      .map((one) => `--- ${one.child.spawnargs.slice(2).join(' ')}\n${one.stdout}\n${one.stderr}`)
      .join('\n');
  }

  /** Ends all; throws when a process of ours outlives that. */
  async close(): Promise<void> {
    for (const eyes of this.#eyes.splice(0)) await eyes.close().catch(() => undefined);
    await Promise.all(this.#started.map((command) => command.kill()));
    try {
      await until(() => this.running().length === 0, 10_000, 'no process of ours left');
    } finally {
      rmSync(this.home, { recursive: true, force: true });
    }
  }
}

/** `pid command` of each process whose environment or arguments name this directory, this one excepted. */
function runningWith(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        // A zombie has no arguments and no environment any more.
        if (command === '') return [];
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
        return `${command} ${environment}`.includes(directory) ? [`${pid} ${command}`] : [];
      } catch {
        return [];
      }
    });
}

export interface VmSpec {
  readonly name: string;
  readonly memory: string;
  readonly dirtyRate?: string;
}

/** A fleet file: hosts with what runs on them. Guests are easy to move unless told otherwise. */
export function fleetText(spec: {
  readonly speed: number;
  readonly bandwidth: string;
  readonly memory: string;
  readonly hosts: Readonly<Record<string, readonly VmSpec[]>>;
}): string {
  const vm = ({ name, memory, dirtyRate = '10MiB/s' }: VmSpec): string =>
    `{ name: ${name}, memory: ${memory}, cpus: 1, dirtyRate: ${dirtyRate}, workingSet: 128MiB, cpuUse: 0.3 }`;
  const hosts = Object.entries(spec.hosts).map(
    ([name, vms]) => `
  - name: ${name}
    driver: simulated
    migrationAddress: 192.0.2.1
    egress: ${spec.bandwidth}
    ingress: ${spec.bandwidth}
    cpus: 64
    memory: ${spec.memory}
    simulated: { vms: [${vms.map(vm).join(', ')}] }`,
  );
  return `name: chaos\nhosts:${hosts.join('')}\nsimulation: { speed: ${spec.speed} }\n`;
}

/** Where copies of each VM are, in any state, by VM. */
export function copiesOf(state: State): Map<string, { host: string; state: string; share: number }[]> {
  const copies = new Map<string, { host: string; state: string; share: number }[]>();
  for (const [host, { copies: here }] of Object.entries(state.hosts)) {
    for (const [vm, copy] of Object.entries(here)) {
      copies.set(vm, [...(copies.get(vm) ?? []), { host, state: copy.state, share: copy.share }]);
    }
  }
  return copies;
}
