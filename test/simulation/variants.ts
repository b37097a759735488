/** Programs that are broken on purpose, one guard each taken away: a simulation that does not catch them proves nothing. */
import type { Hypervisor } from '../../src/hypervisors/hypervisor.ts';
import type { Command } from '../../src/hypervisors/simulated/model.ts';
import { isLease, type Lease } from '../../src/store/lease.ts';
import type { Variant } from './simulation.ts';

const WRITES: readonly Command['kind'][] = [
  'prepareDestination',
  'startMigration',
  'setBandwidth',
  'setDowntimeLimit',
  'beginPostCopy',
  'recoverPostCopy',
  'cancelMigration',
  'discardIncoming',
  'retire',
];
const QUOTAS: readonly Command['kind'][] = ['setShare', 'releaseShare'];
/** As long as it would take to give up a worker. */
const GRANTS_LAST_MS = 10_000;

/** Who has lost its lease goes on, and nothing refuses it. */
const noFencing: Variant = {
  name: 'no fencing',
  caughtBy: 65,
  fault: /lease had been taken over/,
  unchecked: new Set([...WRITES, ...QUOTAS]),
  crew: (options) => ({
    ...options,
    leases: (real) => ({
      acquire: async (name) => {
        const lease = await real.acquire(name);
        return isLease(lease) ? unfenced(lease) : lease;
      },
    }),
  }),
};

function unfenced(lease: Lease): Lease {
  return {
    name: lease.name,
    token: lease.token,
    predecessors: () => lease.predecessors(),
    forgetPredecessors: () => lease.forgetPredecessors(),
    release: () => lease.release(),
    held: () => true,
    assertHeld: () => undefined,
    keep: async () => {
      await lease.keep();
      return true;
    },
  };
}

/** What a shrinking grant frees is given on before the hypervisor has been told. */
const noTwoPhaseShrink: Variant = {
  name: 'no two-phase shrink',
  caughtBy: 698,
  fault: /limits on .* sum to/,
  crew: (options) => ({
    ...options,
    budget: (real) => ({
      use: () => real.use(),
      room: (source, destination) => real.room(source, destination),
      entries: () => real.entries(),
      doubt: () => real.doubt(),
      hear: (...args) => real.hear(...args),
      release: (id, fence) => real.release(id, fence),
      endHeadStart: (id, fence) => real.endHeadStart(id, fence),
      inForce: (id, bytesPerSec, fence) => real.inForce(id, bytesPerSec, fence),
      request: async (demand, fence) => {
        const grant = await real.request(demand, fence);
        await real.inForce(demand.migrationId, grant.bytesPerSec, fence);
        return grant;
      },
    }),
  }),
};

/** What a worker was granted that has not been heard of for a while is given to others. */
const grantsExpire: Variant = {
  name: 'grants expire',
  caughtBy: 90,
  fault: /limits on .* sum to/,
  everySecond: async (world) => {
    const nowMs = world.clock.monotonic();
    const { migrations } = await world.simulated.view();
    for (const { vm } of migrations) {
      const holder = world.leaseTable.holders.get(`vm:${vm}`);
      if (holder === undefined || nowMs - holder.untilMs > GRANTS_LAST_MS) await world.budget.release(vm);
    }
  },
};

/** Every attempt takes it that nothing has been done before. */
const noReconcile: Variant = {
  name: 'no reconcile',
  caughtBy: 14,
  fault: /has left something|runs \d times/,
  crew: (options) => ({ ...options, hypervisor: (real) => blind(options.hypervisor?.(real) ?? real) }),
};

function blind(real: Hypervisor): Hypervisor {
  const begun = new Set<string>();
  return new Proxy(real, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      if (key === 'prepareDestination') {
        return (...args: Parameters<Hypervisor['prepareDestination']>) => {
          begun.add(args[1].vm);
          return target.prepareDestination(...args);
        };
      }
      if (key !== 'look') return value.bind(target);
      return async (host: string, vm: string) => {
        const seen = await target.look(host, vm);
        if (begun.has(vm) || !seen.present) return seen;
        if (seen.state === 'incoming') return { present: false };
        return { ...seen, state: 'running', outgoing: null };
      };
    },
  });
}

const guardWithoutTokens: Variant = {
  name: 'guard without tokens',
  caughtBy: 200,
  fault: /lease had been taken over .*wrote/,
  unchecked: new Set(QUOTAS),
};

export const VARIANTS: readonly Variant[] = [
  noFencing,
  noTwoPhaseShrink,
  grantsExpire,
  noReconcile,
  guardWithoutTokens,
];
