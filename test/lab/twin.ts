/** The lab's guests in the simulator: what a profile is there, and how long its migration takes. */
import type { GuestProfile } from '../../src/lab/profiles.ts';
import { fleetOf, host, PureFleet, type VmInput } from '../hypervisors/simulated/fleets.ts';

const PAGE_BYTES = 4_096;

/** Every write counted, unthrottled; of a guest with phases in the first of them. */
export function rateOf({ tickHz, phases }: GuestProfile): number {
  return tickHz * (phases[0]?.pagesPerTick ?? 0) * PAGE_BYTES;
}

export function workingSetOf({ phases }: GuestProfile): number {
  return phases[0]?.workingSetBytes ?? 0;
}

export function twinOf(profile: GuestProfile): VmInput {
  if (profile.phases.length !== 1 || profile.unpaced) throw new Error(`${profile.name} has no constant rate`);
  return {
    name: profile.name,
    memory: profile.memoryBytes,
    touched: profile.touchedBytes,
    cpus: profile.vcpus,
    dirtyRate: rateOf(profile),
    workingSet: workingSetOf(profile),
    cpuUse: (profile.cpuShare + profile.secondCpuShare) / profile.vcpus,
  };
}

export interface Terms {
  readonly share: number;
  readonly bandwidthBytesPerSec: number;
  readonly downtimeLimitMs: number;
  readonly limitMs: number;
}

/** In virtual time, over a network that limits nothing but the switchover; null: not within the limit. */
export function migrateSimulated(profile: GuestProfile, terms: Terms): { totalMs: number; downtimeMs: number } | null {
  const { share, bandwidthBytesPerSec, downtimeLimitMs, limitMs } = terms;
  const nic = { egress: '10Gbit/s', ingress: '10Gbit/s' };
  const fleet = new PureFleet(fleetOf([host('a', [twinOf(profile)], nic), host('b', [], nic)]));
  fleet.throttle(profile.name, 'a', share);
  fleet.migrate(profile.name, 'a', 'b', { bandwidthBytesPerSec, downtimeLimitMs });
  const ended = fleet.at(limitMs).state.hosts['a']?.copies[profile.name]?.lastOutgoing;
  if (ended?.status !== 'completed') return null;
  return { totalMs: ended.endedAtMs - ended.startedAtMs, downtimeMs: ended.downtimeMs ?? 0 };
}
