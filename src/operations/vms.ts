/** The VMs of a fleet as its hosts were last seen to hold them, each once. Pure. */
import { byName } from '../planning/snapshot.ts';
import { type ClaimsState, holderOf } from '../store/claims.ts';
import type { PublishedInventory } from '../store/presence.ts';

export interface SeenVm {
  readonly vm: string;
  readonly uuid: string;
  readonly host: string;
  readonly state: PublishedInventory['vms'][number]['state'];
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly operation: string | null;
}

/** Where it is rather than where a part of it is; of two hosts that show the same the one that was looked at later. */
const TELLING: readonly SeenVm['state'][] = ['running', 'paused', 'shutOff', 'postMigrate', 'incoming'];

/** By name. Two VMs of one name and different uuids are two. */
export function seenVms(inventories: readonly (PublishedInventory | null)[], claims: ClaimsState): SeenVm[] {
  const found = new Map<string, { readonly seen: SeenVm; readonly rank: number }>();
  const latestFirst = inventories
    .filter((inventory) => inventory !== null)
    .sort((one, other) => other.takenAtMs - one.takenAtMs);
  for (const { host, vms } of latestFirst) {
    for (const { name, uuid, state, cpus, memoryBytes } of vms) {
      const key = `${name} ${uuid}`;
      const rank = TELLING.indexOf(state);
      if ((found.get(key)?.rank ?? Number.POSITIVE_INFINITY) <= rank) continue;
      const operation = holderOf(claims, name);
      found.set(key, { seen: { vm: name, uuid, host, state, cpus, memoryBytes, operation }, rank });
    }
  }
  return [...found.values()]
    .map(({ seen }) => seen)
    .sort((one, other) => byName(one.vm, other.vm) || byName(one.host, other.host));
}
