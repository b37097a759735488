/**
 * A lab that everything may happen to: three hosts in network namespaces, a guest that has to be throttled and an idle one,
 * two worker processes, and a Redis of its own with an append-only file, which can be killed, stopped and set back.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import type { CellBudget } from '../../../src/bandwidth/cell-budget.ts';
import { RealClock } from '../../../src/clock/real-clock.ts';
import type { MoveRecord, OperationRecord } from '../../../src/domain/operation.ts';
import { stopLab } from '../../../src/lab/stop.ts';
import { loadFleet } from '../../../src/runtime/fleet-source.ts';
import { openRedis, redisTarget } from '../../../src/runtime/redis-connection.ts';
import { redisServerProgram } from '../../../src/runtime/redis-install.ts';
import { endRedis, ping } from '../../../src/runtime/redis-process.ts';
import { fleetPrefix, Stores } from '../../../src/runtime/stores.ts';
import type { StoredEvent } from '../../../src/store/event-log.ts';
import type { Command } from '../../cli/spawn.ts';
import { type Copy, endAllOf, LabPlace } from '../../lab/place.ts';
import { groupsOf } from '../../lab/quotas.ts';
import { until } from '../../support/condition.ts';

export const SOURCE = 'lab-a';
export const HOT = 'hot-1';
const HOLDER = 'holder';
const HOSTS = ['lab-a', 'lab-b', 'lab-c'];
const EGRESS = 20 * 2 ** 20;
const ownerSchema = z.object({ pid: z.number() });
/** Both end with the pid of whoever made them. */
const MOUNTED = 'hostevac-chaos-';
const REDIS_HOME = '/tmp/hevr-';

/** Ends what an interrupted run has left: its processes, labs and mounts. */
export async function clearLeft(): Promise<void> {
  const isOver = (pid: string | undefined): boolean => pid !== undefined && !existsSync(`/proc/${pid}`);
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '));
  for (const [what = '', where = ''] of mounts) {
    if (!what.startsWith(MOUNTED) || !isOver(what.slice(MOUNTED.length))) continue;
    const home = dirname(where);
    endAllOf(home);
    execFileSync('umount', ['--lazy', where]);
    await stopLab(home);
    rmSync(home, { recursive: true, force: true });
  }
  for (const name of readdirSync('/tmp')
    .map((entry) => `/tmp/${entry}`)
    .filter((path) => path.startsWith(REDIS_HOME))) {
    if (isOver(name.slice(REDIS_HOME.length).split('-')[0])) rmSync(name, { recursive: true, force: true });
  }
}

/** Whichever other lab has guests of the same names. */
export function isThrottled({ pid }: Copy): boolean {
  return groupsOf(pid).some((group) => group.includes('/hostevac-'));
}

export class ChaosPlace extends LabPlace {
  readonly #redisHome: string;
  #server: ChildProcess | undefined;
  #redis: Redis | undefined;
  #stores: Stores | undefined;
  readonly #workers: Command[] = [];
  #aside = 0;

  constructor() {
    const redisHome = mkdtempSync(`${REDIS_HOME}${process.pid}-`);
    super({ REDIS_URL: join(redisHome, 's') });
    this.#redisHome = redisHome;
  }

  /** Everything but workers. */
  async begin(): Promise<void> {
    mkdirSync(this.guardDir);
    // A file system of its own, so that it can be full or read-only.
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', `${MOUNTED}${process.pid}`, this.guardDir]);
    await this.startRedis();
    const { id } = await this.lab({ profiles: ['hot', 'idle'], network: true, egressBytesPerSec: EGRESS });
    const target = redisTarget(this.#socket);
    // One that waits for a Redis that comes back.
    this.#redis = await openRedis(target, 'worker');
    this.#stores = new Stores({
      redis: this.#redis,
      prefix: fleetPrefix(`lab-${id}`),
      clock: new RealClock(),
      openSubscriber: () => openRedis(target, 'subscriber'),
    });
  }

  get guardDir(): string {
    return join(this.home, 'guard');
  }

  get #socket(): string {
    return join(this.#redisHome, 's');
  }

  get #data(): string {
    return join(this.#redisHome, 'data');
  }

  get stores(): Stores {
    if (this.#stores === undefined) throw new Error('it has not begun');
    return this.#stores;
  }

  /** The VM's copy at this host; undefined: there is none. */
  copyAt(host: string, vm: string): Copy | undefined {
    return this.copies(vm).find((copy) => copy.host === host);
  }

  isThrottledAtSource(vm: string): boolean {
    const copy = this.copyAt(SOURCE, vm);
    return copy !== undefined && isThrottled(copy);
  }

  async startWorker(): Promise<Command> {
    const worker = this.start('worker', '--hosts', HOSTS.join(','), '--operations');
    this.#workers.push(worker);
    await worker.says('serving', 60_000);
    return worker;
  }

  worker(pid: number): Command {
    const found = this.#workers.find((worker) => worker.child.pid === pid);
    if (found === undefined) throw new Error(`no worker has the pid ${pid}`);
    return found;
  }

  /** Those that have not ended. */
  workers(): Command[] {
    return this.#workers.filter(({ child }) => child.exitCode === null && child.signalCode === null);
  }

  async startRedis(): Promise<void> {
    mkdirSync(this.#data, { recursive: true });
    const program = await redisServerProgram({ env: process.env, stateDir: this.#redisHome, log: () => undefined });
    const settings = ['--port', '0', '--unixsocket', this.#socket, '--dir', this.#data, '--save', ''];
    const durable = ['--appendonly', 'yes', '--appendfsync', 'always'];
    this.#server = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...settings, ...durable], {
      stdio: 'ignore',
      detached: true,
    });
    await until(async () => (await ping(this.#socket, 1_000)).state === 'ready', 20_000, 'Redis answers');
  }

  /** Pids of the guards of this place's quotas. */
  guards(): number[] {
    return this.running()
      .filter((text) => text.includes('/guard/main.js'))
      .map((text) => Number(text.split(' ')[0]));
  }

  get redisPid(): number {
    const pid = this.#server?.pid;
    if (pid === undefined) throw new Error('Redis does not run');
    return pid;
  }

  async killRedis(): Promise<void> {
    const server = this.#server;
    if (server === undefined) throw new Error('Redis does not run');
    const ended = new Promise<void>((resolve) => server.once('close', () => resolve()));
    process.kill(this.redisPid, 'SIGKILL');
    await ended;
    rmSync(this.#socket, { force: true });
  }

  /** What Redis has written down now, to be put back later as a replica that lags behind would have it. */
  setAside(): string {
    this.#aside += 1;
    const path = join(this.#redisHome, `aside-${this.#aside}`);
    cpSync(this.#data, path, { recursive: true });
    return path;
  }

  /** While Redis does not run. */
  putBack(path: string): void {
    rmSync(this.#data, { recursive: true });
    cpSync(path, this.#data, { recursive: true });
  }

  /** The worker process that drives this VM's move; null: nobody holds its lease. */
  async driverOf(vm: string): Promise<number | null> {
    const text = await this.#redis?.hget(`${fleetPrefix(`lab-${this.manifest.id}`)}:lease:vm:${vm}`, 'owner');
    return text === null || text === undefined ? null : ownerSchema.parse(JSON.parse(text)).pid;
  }

  async operation(id: string): Promise<OperationRecord> {
    const record = await this.stores.records.operation(id);
    if (record === null) throw new Error(`no operation ${id}`);
    return record;
  }

  /** Every move that was made for this VM, oldest first. */
  async moves(id: string, vm: string): Promise<MoveRecord[]> {
    const task = (await this.stores.records.operation(id))?.tasks.find((one) => one.vm === vm);
    return (await this.stores.records.moves(task?.moveIds ?? [])).filter((move) => move !== null);
  }

  async events(id: string): Promise<StoredEvent[]> {
    return await this.stores.events.read(id, '0', 0);
  }

  /** Bytes/s that the books count, by host. */
  get #budget(): CellBudget {
    return this.stores.budget(loadFleet({ path: join(this.home, 'fleet.yaml') }).fleet);
  }

  /**
   * All that may leave the source is taken by a VM that nobody knows, so that what is asked for has to wait. What is left of
   * it, should the store lose that it was let go, the workers give back by themselves.
   */
  async holdEgress(): Promise<void> {
    const rate = {
      usefulBytesPerSec: EGRESS,
      maxBytesPerSec: EGRESS,
      usesBytesPerSec: EGRESS,
      headStart: false,
      endsSoon: false,
    };
    const names = { migrationId: HOLDER, vm: HOLDER, moveId: HOLDER, operationId: HOLDER };
    await this.#budget.request({
      ...names,
      ...rate,
      source: SOURCE,
      destination: 'lab-b',
      tier: 'evacuation',
      order: 0,
    });
  }

  letEgressGo(): Promise<void> {
    return this.#budget.release(HOLDER);
  }

  async counted(): Promise<Record<string, readonly number[]>> {
    const uses = await this.#budget.use();
    return Object.fromEntries(uses.map((use) => [use.host, [use.egress.counted, use.ingress.counted]]));
  }

  override async close(): Promise<void> {
    try {
      await this.#stores?.close();
      this.#redis?.disconnect();
      for (const worker of this.#workers) await worker.kill();
      execFileSync('umount', ['--lazy', this.guardDir]);
    } finally {
      try {
        await super.close();
      } finally {
        if (this.#server?.exitCode === null && this.#server.signalCode === null) await endRedis(this.#server);
        rmSync(this.#redisHome, { recursive: true, force: true });
      }
    }
  }
}
