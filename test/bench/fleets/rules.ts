/**
 * Hosts of a simulated fleet emptied as others do it: so many at a time from each host, a bandwidth for each that is split in
 * advance or not at all, and QEMU's auto-converge under it. Where each guest goes is given. A throttle holds back a part of
 * what the guest would use, as the simulated fleet knows it; QEMU's is a part of the time, and hardly felt by idle guests.
 */
import { VirtualClock } from '../../../src/clock/virtual-clock.ts';
import { fleetSchema } from '../../../src/domain/fleet.ts';
import { MemorySimulationLog } from '../../../src/hypervisors/simulated/memory-log.ts';
import { BURST_MS, type Migration } from '../../../src/hypervisors/simulated/model.ts';
import { countersAt } from '../../../src/hypervisors/simulated/passes.ts';
import { SimulatedFleet } from '../../../src/hypervisors/simulated/simulated-fleet.ts';
import { Books, type Emptied } from './books.ts';
import type { Scenario } from './scenario.ts';

export interface Rule {
  readonly name: string;
  readonly what: string;
  /** At a time, from each host. */
  readonly lanes: number;
  /** Of the host's egress, for each. */
  readonly part: number;
}

export const RULES: readonly Rule[] = [
  {
    name: 'two',
    what: "two at a time from each host with half its bandwidth each (oVirt's rule)",
    lanes: 2,
    part: 1 / 2,
  },
  { name: 'one', what: "one at a time from each host with all of it (Nova's)", lanes: 1, part: 1 },
  { name: 'four', what: "four at a time from each host that share as they can (Proxmox's)", lanes: 4, part: 1 },
];

/** QEMU's default. */
const DOWNTIME_LIMIT_MS = 300;
/** No pass is shorter. */
const LOOK_MS = BURST_MS;
const FOR_EVER_MS = 1e9;

/**
 * QEMU's auto-converge with its defaults: who dirties more than half of what is sent, twice, is held back, more each time. It
 * looks when a pass ends and, since 9.2 and after the first pass, whenever it has not looked for 5 s.
 */
const AUTO_CONVERGE = {
  initial: 0.2,
  increment: 0.1,
  most: 0.99,
  threshold: 0.5,
  periodMs: 1_000,
  syncMs: 5_000,
} as const;

interface Seen {
  readonly atMs: number;
  readonly sentBytes: number;
  readonly dirtiedBytes: number;
}

class AutoConverge {
  #pass = 1;
  #passBeganMs: number;
  /** In passes that have ended. */
  #dirtiedBytes = 0;
  #syncedMs: number;
  #last: Seen;
  #high = 0;
  #taken = 0;

  constructor(startedAtMs: number) {
    this.#passBeganMs = startedAtMs;
    this.#syncedMs = startedAtMs;
    this.#last = { atMs: startedAtMs, sentBytes: 0, dirtiedBytes: 0 };
  }

  /** The share from now on; null: as it was. */
  look(migration: Migration, nowMs: number): number | null {
    const { pass, passStartedAtMs, sentBeforeBytes, lastDirtyRateBytesPerSec } = migration;
    if (pass !== this.#pass) {
      this.#dirtiedBytes += (lastDirtyRateBytesPerSec * (passStartedAtMs - this.#passBeganMs)) / 1_000;
      this.#passBeganMs = passStartedAtMs;
    } else if (pass === 1 || nowMs < this.#syncedMs + AUTO_CONVERGE.syncMs) return null;
    this.#pass = pass;
    this.#syncedMs = nowMs;
    const { sentBytes, dirtiedBytes } = countersAt(migration, nowMs);
    const seen = {
      atMs: nowMs,
      sentBytes: sentBeforeBytes + sentBytes,
      dirtiedBytes: this.#dirtiedBytes + dirtiedBytes,
    };
    return this.#judge(seen);
  }

  #judge(seen: Seen): number | null {
    const last = this.#last;
    if (seen.atMs <= last.atMs + AUTO_CONVERGE.periodMs) return null;
    this.#last = seen;
    if (seen.dirtiedBytes - last.dirtiedBytes <= AUTO_CONVERGE.threshold * (seen.sentBytes - last.sentBytes))
      return null;
    this.#high += 1;
    if (this.#high < 2) return null;
    this.#high = 0;
    const more = this.#taken === 0 ? AUTO_CONVERGE.initial : AUTO_CONVERGE.increment;
    this.#taken = Math.min(AUTO_CONVERGE.most, this.#taken + more);
    return 1 - this.#taken;
  }
}

export async function byRule(
  { fleet: input, evacuate }: Scenario,
  rule: Rule,
  destinations: ReadonlyMap<string, string>,
): Promise<Emptied> {
  const fleet = fleetSchema.parse(input);
  const clock = new VirtualClock({ startMs: 1_000_000 });
  const bare = new MemorySimulationLog(clock);
  const seen = new SimulatedFleet({ fleet, log: bare });
  const books = new Books(seen, evacuate);
  await books.open();
  const simulated = new SimulatedFleet({ fleet, log: books.watch(bare) });
  const egress = new Map(fleet.hosts.map((host) => [host.name, host.egress]));
  const lane = async (source: string, left: string[]): Promise<void> => {
    for (let vm = left.shift(); vm !== undefined; vm = left.shift()) {
      const destination = destinations.get(vm);
      if (destination === undefined) throw new Error(`${vm} has no destination`);
      const bandwidthBytesPerSec = Math.floor((egress.get(source) ?? 0) * rule.part);
      await migrated(simulated, clock, { vm, source, destination, bandwidthBytesPerSec });
    }
  };
  const lanes = evacuate.flatMap((host) => {
    const left = [...books.homes].filter(([, home]) => home === host).map(([vm]) => vm);
    return Array.from({ length: rule.lanes }, () => lane(host, left));
  });
  let ended = false;
  const all = Promise.all(lanes).finally(() => {
    ended = true;
  });
  await Promise.all([all, clock.runUntil(() => ended, FOR_EVER_MS)]);
  return books.close();
}

async function migrated(
  simulated: SimulatedFleet,
  clock: VirtualClock,
  of: {
    readonly vm: string;
    readonly source: string;
    readonly destination: string;
    readonly bandwidthBytesPerSec: number;
  },
): Promise<void> {
  const { vm, source } = of;
  const target = { ...of, migrationId: vm, token: 1 };
  await simulated.send({ kind: 'prepareDestination', ...target });
  await simulated.send({ kind: 'startMigration', ...target, downtimeLimitMs: DOWNTIME_LIMIT_MS, postCopy: false });
  const converge = new AutoConverge(clock.now());
  for (;;) {
    await clock.sleep(LOOK_MS);
    const active = (await simulated.view()).migrations.find((one) => one.vm === vm);
    if (active === undefined) break;
    const share = converge.look(active, clock.now());
    if (share === null) continue;
    await simulated.send({ kind: 'setShare', token: 1, vm, host: source, share, validForMs: FOR_EVER_MS });
  }
  await simulated.send({ kind: 'retire', token: 1, vm, source });
}
