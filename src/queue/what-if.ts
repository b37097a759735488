/**
 * "What would it cost to move this VM now?": finds the VM, has the worker that serves its host look at it, and plays every
 * aggression forward for what is then known. Claims nothing and changes nothing. The arithmetic is
 * src/convergence/what-if.ts, how a guest is looked at src/runtime/measure.ts.
 */
import { z } from 'zod';
import { fitDirtyModel } from '../convergence/fit.ts';
import { fromHistory, type History } from '../convergence/history.ts';
import { behaviourOf } from '../convergence/policies/behaviours.ts';
import type { PolicyBehaviour } from '../convergence/policy-behaviour.ts';
import { whatIf } from '../convergence/what-if.ts';
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { entityName } from '../domain/names.ts';
import { newTask } from '../domain/operation.ts';
import {
  POLICY_PRESETS,
  type Policy,
  type PolicyCatalogue,
  policyInput,
  policyNames,
  resolvePolicy,
} from '../domain/policy.ts';
import { parseInput } from '../domain/problems.ts';
import { type FleetView, type HostView, readFleet } from '../operations/fleet-view.ts';
import { sentence, unknownName } from '../operations/intake.ts';
import { planRound } from '../operations/plan.ts';
import type { Stores } from '../runtime/stores.ts';
import type { GuestSeen } from './measurements.ts';
import { MEASURING_TOPIC } from './measurements.ts';
import type { WhatIfAnswer, WhatIfStage } from './producer.ts';

/** A worker takes a request within a wake-up; one that has not within this (real ms) does not come any more. */
const TAKEN_WITHIN_MS = 5_000;
/** From then on: its looks, and what a busy machine adds (real ms). */
const REPLY_WITHIN_MS = 20_000;
const LOOK_AGAIN_MS = 500;
/** With less than this part of its path a migration rather waits (see src/migration/admit.ts). */
const USEFUL_PART = 0.5;

export function whatIfInput(policies: readonly string[] = policyNames) {
  return z.strictObject({ vm: entityName, to: entityName.optional(), ...policyInput(policies).shape });
}
export type WhatIfInput = z.input<ReturnType<typeof whatIfInput>>;

export interface WhatIfDeps {
  readonly fleet: Fleet;
  readonly stores: Stores;
  readonly catalogue: PolicyCatalogue;
  readonly behaviours: ReadonlyMap<string, PolicyBehaviour>;
}

/** Throws `badInput`, `unknownHost`, `unknownVm`, `hostUnreachable`; rejects with the signal's reason when it aborts. */
export async function askWhatIf(
  deps: WhatIfDeps,
  input: WhatIfInput,
  options: { readonly signal?: AbortSignal; readonly onStage?: (stage: WhatIfStage) => void } = {},
): Promise<WhatIfAnswer> {
  const { fleet, stores } = deps;
  const parsed = parseInput(whatIfInput([...deps.catalogue.keys()]), input, { what: 'what-if' });
  const { vm, to = null } = parsed;
  const hosts = fleet.hosts.map(({ name }) => name);
  const fault = to === null ? null : unknownName('to', to, 'host', hosts);
  if (fault !== null) throw new HostevacError('unknownHost', sentence(fault), { problems: [fault] });
  const named = parsed.policy === undefined ? undefined : deps.catalogue.get(parsed.policy);
  const policy = resolvePolicy(named ?? POLICY_PRESETS.maintenance, parsed);

  const view = await readFleet({ clock: stores.clock, fleet, presence: stores.presence });
  const { host } = whereIs(view, vm);
  if (!host.served) {
    const start = `start one: hostevac up, or hostevac worker --hosts ${host.host}`;
    throw new HostevacError(
      'hostUnreachable',
      `no worker serves ${host.host}, so nobody can look at ${vm} there; ${start}`,
    );
  }
  if (to === host.host) {
    const problem = {
      path: 'to',
      value: JSON.stringify(to),
      message: `${vm} is there already`,
      remedy: 'name another host',
    };
    throw new HostevacError('badInput', sentence(problem), { problems: [problem] });
  }
  const destination = await destinationOf(deps, view, { vm, source: host.host, to });
  const path = await pathRoom(deps, host.host, destination.host, policy);
  const seen = await look(stores, { host: host.host, vm }, options);
  const history = await stores.records.history(seen.uuid);
  return answer({ deps, vm, host: host.host, policy, destination, path, seen, history });
}

/** Where it runs; else where it is paused, then where it is at all. Throws `unknownVm`, `hostUnreachable`. */
function whereIs(view: FleetView, vm: string): { readonly host: HostView } {
  const rank = (state: string): number => ['running', 'paused', 'shutOff'].indexOf(state);
  const places = [...view.hosts.values()].flatMap((host) =>
    (host.inventory?.vms ?? [])
      .filter(({ name, state }) => name === vm && rank(state) >= 0)
      .map(({ state }) => ({ host, rank: rank(state) })),
  );
  const [found] = places.sort((a, b) => a.rank - b.rank);
  if (found !== undefined) return found;
  const unseen = [...view.hosts.values()].flatMap(({ inventory, unusable }) =>
    inventory === null ? [unusable ?? 'a host that nobody has seen'] : [],
  );
  if (unseen.length > 0) {
    const [first = ''] = unseen;
    const more = unseen.length > 1 ? ` (and ${unseen.length - 1} more)` : '';
    throw new HostevacError(
      'hostUnreachable',
      `no host that was seen has a VM ${JSON.stringify(vm)}, but ${first}${more}`,
    );
  }
  const names = [...view.hosts.values()].flatMap(({ inventory }) => inventory?.vms.map(({ name }) => name) ?? []);
  const fault = unknownName(
    'vm',
    vm,
    'VM',
    [...new Set(names)].filter((name) => name !== vm),
  );
  // Never null: the name was taken out, for a copy of it that has moved away is no VM.
  if (fault === null) throw new RangeError(`${vm} is known and is not`);
  throw new HostevacError('unknownVm', sentence(fault), { problems: [fault] });
}

interface Destination {
  /** null: there is none now. */
  readonly host: string | null;
  readonly why: string;
}

/** Where an evacuation would put it now. A destination that was named is not judged: the answer is about its way. */
async function destinationOf(
  { fleet, stores }: WhatIfDeps,
  view: FleetView,
  { vm, source, to }: { readonly vm: string; readonly source: string; readonly to: string | null },
): Promise<Destination> {
  if (to !== null) return { host: to, why: 'as asked' };
  const claims = { ...(await stores.claims.read()), changedAtMs: {} };
  const tasks = [newTask(vm, source)];
  const { result } = planRound({ fleet, view, operationId: 'what-if', tasks, round: 1, nonMigratable: null })(claims);
  const [placed] = result.assigned;
  if (placed !== undefined) return { host: placed.destination, why: placed.why };
  const why = result.blocked[0]?.reason.message ?? result.waiting[0]?.why ?? 'no host takes it now';
  return { host: null, why };
}

async function pathRoom(
  { fleet, stores }: WhatIfDeps,
  source: string,
  destination: string | null,
  policy: Policy,
): Promise<WhatIfAnswer['path']> {
  // Without a destination: to the host that the most can be sent to.
  const candidates =
    destination === null ? fleet.hosts.map(({ name }) => name).filter((name) => name !== source) : [destination];
  const budget = stores.budget(fleet);
  const rooms = await Promise.all(candidates.map((name) => budget.room(source, name)));
  const room = rooms.reduce(
    (a, b) => (b.capacity > a.capacity ? b : a),
    rooms[0] ?? { capacity: 0, free: 0, narrowest: 'nothing' },
  );
  const useful = USEFUL_PART * Math.min(room.capacity, policy.maxBandwidthBytesPerSec ?? Number.POSITIVE_INFINITY);
  const waits = room.free < useful;
  return {
    bytesPerSec: waits ? room.capacity : room.free,
    capacityBytesPerSec: room.capacity,
    freeBytesPerSec: room.free,
    narrowest: room.narrowest,
    waits,
  };
}

async function look(
  stores: Stores,
  target: { readonly host: string; readonly vm: string },
  { signal, onStage }: { readonly signal?: AbortSignal; readonly onStage?: (stage: WhatIfStage) => void },
): Promise<GuestSeen> {
  signal?.throwIfAborted();
  const { measurements, clock } = stores;
  const listener = await stores.wakeups.listen(MEASURING_TOPIC);
  const id = await measurements.ask(target.host, target.vm);
  try {
    const began = clock.monotonic();
    let takenAt: number | null = null;
    for (;;) {
      const known = await measurements.read(id);
      if (known?.reply != null) {
        if ('seen' in known.reply) return known.reply.seen;
        throw new HostevacError(known.reply.refused.code, known.reply.refused.message);
      }
      if (known?.takenBy != null && takenAt === null) {
        takenAt = clock.monotonic();
        onStage?.({ kind: 'measuring', ...target });
      }
      const waited = clock.monotonic() - (takenAt ?? began);
      if (known === null || waited > (takenAt === null ? TAKEN_WITHIN_MS : REPLY_WITHIN_MS)) {
        const what = takenAt === null ? 'does not take requests' : 'has not answered in time';
        throw new HostevacError(
          'hostUnreachable',
          `the worker that serves ${target.host} ${what}; see its log, and try again`,
        );
      }
      await listener.next(LOOK_AGAIN_MS, signal);
      signal?.throwIfAborted();
    }
  } finally {
    await Promise.all([listener.close(), measurements.withdraw(id)]);
  }
}

function answer(given: {
  readonly deps: WhatIfDeps;
  readonly vm: string;
  readonly host: string;
  readonly policy: Policy;
  readonly destination: Destination;
  readonly path: WhatIfAnswer['path'];
  readonly seen: GuestSeen;
  readonly history: History;
}): WhatIfAnswer {
  const { deps, vm, host, policy, destination, path, seen, history } = given;
  const state = seen.migratingTo !== null ? 'migrating' : seen.state;
  const common = {
    vm,
    host,
    destination: destination.host,
    destinationWhy: destination.why,
    state,
    migratingTo: seen.migratingTo,
    guest: seen.guest,
    policy,
    path,
    measured: { looks: seen.windows, tookMs: seen.tookMs, earlierMigrations: history.length },
  } as const;
  if (state !== 'running') {
    const model = null;
    return { ...common, model, rows: [], relaxed: [], givesUp: null, bandwidthBytesPerSec: capped(path, policy) };
  }
  const evidence = [...fromHistory(history, seen.atMs), ...seen.windows];
  const model = fitDirtyModel(evidence, seen.guest, seen.atMs);
  const outcome = whatIf({
    model,
    guest: seen.guest,
    policy,
    behaviour: behaviourOf(policy.name, deps.behaviours),
    pathBytesPerSec: path.bytesPerSec,
    certain: model.change === null && seen.windows.length > 0,
  });
  const { rateBytesPerSec, workingSetBytes, pattern, change } = model;
  return { ...common, model: { rateBytesPerSec, workingSetBytes, pattern, change }, ...outcome };
}

function capped(path: WhatIfAnswer['path'], { maxBandwidthBytesPerSec }: Policy): number {
  return Math.min(path.bytesPerSec, maxBandwidthBytesPerSec ?? Number.POSITIVE_INFINITY);
}
