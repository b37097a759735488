/**
 * One migration of one lab guest between two hosts on this machine, at one bandwidth and one share of its CPU from before
 * its start to its end: real QEMU through the adapter, the real throttle through the guard.
 */
import { pino } from 'pino';
import { z } from 'zod';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { RealClock } from '../../src/clock/real-clock.ts';
import { QemuHypervisor } from '../../src/hypervisors/qemu/hypervisor.ts';
import { qemusOf } from '../../src/lab/processes.ts';
import type { ProfileName } from '../../src/lab/profiles.ts';
import { stopLab } from '../../src/lab/stop.ts';
import type { Fence } from '../../src/store/lease.ts';
import { CgroupThrottle } from '../../src/throttling/cgroup-throttle.ts';
import { GuardClient } from '../../src/throttling/guard/client.ts';
import { GUARD_ENTRY } from '../throttling/place.ts';
import { asking, type LabPlace } from './place.ts';
import { cpuTimes, othersCores } from './quiet.ts';

const PAGE_BYTES = 4_096;
const GIB = 2 ** 30;
const RENEW_MS = 500;
const VALID_MS = 1_800;
/** Every preset's. */
const STRETCH_MS = 300;
/** Of the guest, unthrottled, before. */
const LOOK_MS = 1_500;

export interface Order {
  readonly profile: ProfileName;
  readonly share: number;
  readonly bandwidthBytesPerSec: number;
  readonly downtimeLimitMs: number;
  /** A migration that has not completed by then is cancelled. */
  readonly limitMs: number;
}

export interface Measured {
  /** QEMU's own, from `migrate` to the end; null: cancelled at the limit. */
  readonly totalMs: number | null;
  readonly downtimeMs: number | null;
  readonly passes: number;
  /** Every write counted: before, unthrottled, and while it was migrated. */
  readonly freeRateBytesPerSec: number;
  readonly rateBytesPerSec: number;
  /** CPU time that it got while it was migrated, of what it wanted. */
  readonly gotShare: number;
  /** What QEMU reported last while it sent passes. */
  readonly dirtyRateBytesPerSec: number;
  /** Cores that others used meanwhile. */
  readonly othersCores: number;
}

const endSchema = z.looseObject({ status: z.string(), 'total-time': z.number().optional() });
const HELD: Fence = { token: 1, assertHeld: () => undefined };

export async function migrateReally(place: LabPlace, order: Order): Promise<Measured> {
  const { guests } = await place.lab({ hosts: 2, profiles: [order.profile] });
  const vm = guests[0]?.name ?? '';
  const clock = new RealClock();
  const guard = new GuardClient({ stateDir: place.home, log: () => undefined, entry: GUARD_ENTRY });
  const hosts = place.manifest.hosts.map((host) => ({ ...host, memoryBytes: 2 * GIB, cpus: 4 }));
  const hypervisor = new QemuHypervisor({ hosts, clock, log: pino({ level: 'silent' }), gatekeeper: null });
  const throttle = new CgroupThrottle({ guard, vcpuThreadsOf: hypervisor.vcpuThreads, clock, log: () => undefined });
  const renewals = new Renewals(() =>
    throttle.set(HELD, { host: 'lab-a', vm, share: order.share, validForMs: VALID_MS, longestStretchMs: STRETCH_MS }),
  );
  try {
    const measured = await measure(place, order, { vm, hypervisor, throttle, renewals });
    await renewals.stop();
    return measured;
  } finally {
    // It has thrown already, or something else has.
    await renewals.stop().catch(() => undefined);
    await guard.close();
    await hypervisor.close();
    await stopLab(place.home);
  }
}

interface Parts {
  readonly vm: string;
  readonly hypervisor: QemuHypervisor;
  readonly throttle: CgroupThrottle;
  readonly renewals: Renewals;
}

async function measure(place: LabPlace, order: Order, parts: Parts): Promise<Measured> {
  const { vm, hypervisor, throttle, renewals } = parts;
  const { bandwidthBytesPerSec, downtimeLimitMs, limitMs } = order;
  const source = place.only(vm);
  const guest = { host: 'lab-a', vm };
  const moment = async () => ({
    atMs: performance.now(),
    writes: await place.progressOf(source),
    cpu: await throttle.guestCpu(guest),
  });
  const rate = (from: { atMs: number; writes: number }, to: { atMs: number; writes: number }): number =>
    ((to.writes - from.writes) * PAGE_BYTES * 1_000) / (to.atMs - from.atMs);

  await throttle.guestCpu(guest);
  const free = await moment();
  await abortableSleep(LOOK_MS);
  const before = await moment();
  await renewals.start();

  const target = { vm, source: 'lab-a', destination: 'lab-b', migrationId: 'calibration' };
  await hypervisor.prepareDestination(HELD, target);
  const pids = qemusOf(place.manifest.place).map(({ pid }) => pid);
  const start = await moment();
  const busyBefore = cpuTimes(pids);
  await hypervisor.startMigration(HELD, { ...target, bandwidthBytesPerSec, downtimeLimitMs, postCopy: false });
  let dirtyRateBytesPerSec = 0;
  let last = start;
  let passes = 1;
  let status = 'active';
  while (status !== 'completed' && performance.now() - start.atMs < limitMs) {
    const sample = await hypervisor.sample('lab-a', vm);
    if (sample === null || sample.status === 'failed') throw new Error(`${vm}: ${JSON.stringify(sample)}`);
    ({ status, pass: passes } = sample);
    if (status === 'active') {
      ({ dirtyRateBytesPerSec } = sample);
      last = await moment();
    }
    await abortableSleep(20);
  }
  const busyAfter = cpuTimes(pids);
  const end = await asking(source.dir.spare, (qmp) => qmp.execute('query-migrate', endSchema));
  const sample = await hypervisor.sample('lab-a', vm);
  if (status !== 'completed') await hypervisor.cancelMigration(HELD, 'lab-a', vm);
  const elapsedMs = last.cpu.atMs - start.cpu.atMs;
  return {
    totalMs: status === 'completed' ? (end['total-time'] ?? null) : null,
    downtimeMs: sample?.downtimeMs ?? null,
    passes,
    freeRateBytesPerSec: rate(free, before),
    rateBytesPerSec: rate(start, last),
    gotShare: (last.cpu.gotCpuMs - start.cpu.gotCpuMs) / (elapsedMs * before.cpu.demandCores),
    dirtyRateBytesPerSec,
    othersCores: othersCores(busyBefore, busyAfter),
  };
}

/** A throttle that lasts because it is renewed, as a worker does it at every tick. */
class Renewals {
  readonly #renew: () => Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #turn: Promise<void> = Promise.resolve();
  #failure: unknown;

  constructor(renew: () => Promise<void>) {
    this.#renew = renew;
  }

  async start(): Promise<void> {
    await this.#renew();
    this.#timer = setInterval(() => {
      this.#turn = this.#turn.then(this.#renew).catch((error: unknown) => {
        this.#failure ??= error;
      });
    }, RENEW_MS);
  }

  /** Throws what a renewal failed with: then the guest was not held back as it should have been. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#turn;
    if (this.#failure !== undefined) throw this.#failure;
  }
}
