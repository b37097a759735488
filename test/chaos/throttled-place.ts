/** A lab with a guest that must be throttled and one that need not be, on the run's Redis, with eyes on all of it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { expect } from 'vitest';
import { RealClock } from '../../src/clock/real-clock.ts';
import type { ProfileName } from '../../src/lab/profiles.ts';
import { openRedis, redisTarget } from '../../src/runtime/redis-connection.ts';
import { fleetPrefix, Stores } from '../../src/runtime/stores.ts';
import type { StoredEvent } from '../../src/store/event-log.ts';
import type { Command } from '../cli/spawn.ts';
import { LabPlace } from '../lab/place.ts';
import { groupsOf } from '../lab/quotas.ts';
import { until } from '../support/condition.ts';
import { testRedisSocket } from '../support/redis.ts';
import { HeldBack } from './held-back.ts';
import { steering, tracedOf } from './qmp-log.ts';

export const SOURCE = 'lab-a';
const HOSTS = ['lab-a', 'lab-b'];

export interface GuardLine {
  readonly atMs: number;
  readonly pid: number;
  readonly text: string;
}

export class ThrottledPlace extends LabPlace {
  #redis: Redis | undefined;
  #stores: Stores | undefined;
  readonly #watched: HeldBack[] = [];

  /** The Redis outlives every worker. */
  constructor() {
    super({ REDIS_URL: testRedisSocket() });
  }

  async begin(profiles: readonly ProfileName[]): Promise<void> {
    const { id } = await this.lab({ profiles, hosts: HOSTS.length });
    const target = redisTarget(testRedisSocket());
    this.#redis = await openRedis(target, 'producer');
    this.#stores = new Stores({
      redis: this.#redis,
      prefix: fleetPrefix(`lab-${id}`),
      clock: new RealClock(),
      openSubscriber: () => openRedis(target, 'subscriber'),
    });
  }

  async startWorker(): Promise<Command> {
    const worker = this.start('worker', '--hosts', HOSTS.join(','), '--operations');
    await worker.says('serving', 60_000);
    return worker;
  }

  async watchQuota(vm: string, lent: boolean): Promise<HeldBack> {
    const heldBack = await HeldBack.of(this.only(vm), lent);
    this.#watched.push(heldBack);
    return heldBack;
  }

  async events(id: string): Promise<StoredEvent[]> {
    return (await this.#stores?.events.read(id, '0', 0)) ?? [];
  }

  guardLog(): GuardLine[] {
    const text = readFileSync(join(this.home, 'guard', 'guard.log'), 'utf8');
    return text.split('\n').flatMap((line) => {
      const [, at = '', pid, rest = ''] = /^(\S+) (\d+) (.*)$/.exec(line) ?? [];
      return pid === undefined ? [] : [{ atMs: Date.parse(at), pid: Number(pid), text: rest }];
    });
  }

  /** The guard that runs; throws when there is none or more. */
  guardPid(): number {
    const guards = this.running().filter((text) => text.includes('/guard/main.js'));
    if (guards.length !== 1) throw new Error(`guards: ${guards.join('; ')}`);
    return Number(guards[0]?.split(' ')[0]);
  }

  /**
   * The operation ends well: every guest runs once, at its destination, whole, moved by one `migrate`, held back nowhere.
   * On a machine this busy a destination may answer too late before a switchover, and the migration is made again: once for
   * a VM, and told.
   */
  async endsWell(id: string): Promise<void> {
    const ended = await this.run('watch', id, '--timeout', '150s');
    expect(ended.code, ended.stdout + ended.stderr).toBe(0);
    const vms = this.manifest.guests.map(({ name }) => name);
    const attempts = (await this.events(id)).filter(({ kind }) => kind === 'move.cleaning' || kind === 'move.failed');
    const calledOff = attempts.filter(({ message }) => /lab-b does not answer; it stays at lab-a/.test(message));
    const callsOff = (vm: string | null) =>
      calledOff.filter((event) => event.vm === vm && event.kind === 'move.failed').length;
    expect(attempts.filter(({ vm }) => callsOff(vm) === 0)).toEqual([]);
    for (const { message } of calledOff) console.warn(`!!! called off for a slow answer and made again: ${message}`);
    for (const vm of vms) {
      const copy = this.only(vm);
      expect([vm, copy.host, await this.stateOf(copy)]).toEqual([vm, 'lab-b', 'running']);
      expect((await this.check(copy)).faults, vm).toEqual([]);
      expect(groupsOf(copy.pid).filter((group) => group.includes('/hostevac-'))).toEqual([]);
      const before = await this.progressOf(copy);
      await until(async () => (await this.progressOf(copy)) > before, 20_000, `${vm} goes on`);
      const started = steering(tracedOf(this.home, vm)).filter(({ command }) => command === 'migrate');
      expect(callsOff(vm), `migrations of ${vm} called off`).toBeLessThanOrEqual(1);
      expect(started, `migrations of ${vm}`).toHaveLength(1 + callsOff(vm));
    }
    expect(this.directories()).toEqual(vms.map((vm) => `lab-b/${vm}`));
  }

  override async close(): Promise<void> {
    const keys = await this.#redis?.keys(`*${fleetPrefix(`lab-${this.manifest.id}`)}*`);
    await this.#stores?.close();
    try {
      await super.close();
    } finally {
      if (keys !== undefined && keys.length > 0) await this.#redis?.unlink(...keys);
      this.#redis?.disconnect();
      for (const heldBack of this.#watched) heldBack.close();
    }
  }
}
