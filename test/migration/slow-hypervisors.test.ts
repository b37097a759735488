/** Hypervisors that refuse for a while, or that take their time to begin: a migration outlasts both. */
import { expect, test } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import type { Hypervisor } from '../../src/hypervisors/hypervisor.ts';
import { evacuate, host, vm, World } from '../support/world.ts';

function but(real: Hypervisor, changes: Partial<Hypervisor>): Hypervisor {
  return new Proxy(real, {
    get: (target, key) => {
      const value: unknown = Reflect.get(changes, key) ?? Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const world = () => new World({ hosts: [host('a', [vm('v1', { memory: '16GiB' })]), host('b')] });

test('what is refused while it runs is asked again twice a second, not in a row', async () => {
  const place = world();
  const refusedAt: number[] = [];
  const forMs = 6_000;
  await place.crew({
    hypervisor: (real) =>
      but(real, {
        setDowntimeLimit: async (...args) => {
          const atMs = place.clock.now();
          if (atMs - (refusedAt[0] ?? atMs) < forMs) {
            refusedAt.push(atMs);
            throw new HostevacError('hypervisorRefused', 'busy with something else');
          }
          await real.setDowntimeLimit(...args);
        },
      }),
  });
  const id = await place.request(evacuate('a'));
  expect(await place.ended(id)).toMatchObject({ state: 'done' });
  expect(await place.copies('v1')).toEqual(['b:running']);
  expect(refusedAt.length).toBeGreaterThan(3);
  const gaps = refusedAt.slice(1).map((atMs, index) => atMs - (refusedAt[index] ?? 0));
  // The first time it looks again at once.
  expect(Math.min(...gaps.slice(1))).toBeGreaterThanOrEqual(500);
});

test.each([
  ['that may take so long is waited for', 30_000, 'done'],
  ['that may not is given up', 10_000, 'failed'],
])('a destination %s', async (_name, setupSilenceMs, state) => {
  const place = world();
  let since: number | null = null;
  await place.crew({
    hypervisor: (real) =>
      but(real, {
        setupSilenceMs,
        sample: async (...args) => {
          const sample = await real.sample(...args);
          if (sample === null) return null;
          since ??= sample.atMs;
          // Its counters begin when its destination stands.
          return sample.atMs - since < 15_000 && sample.status === 'active'
            ? { ...sample, status: 'setup', totalBytes: 0, transferredBytes: 0 }
            : sample;
        },
      }),
  });
  const id = await place.request(evacuate('a', { maxAttempts: 1 }));
  expect(await place.ended(id, 120_000)).toMatchObject({ tasks: [{ state }] });
});

test('a hypervisor that takes long to hand over is given a limit as much lower, at the start and whenever it is set', async () => {
  const place = world();
  const limits: number[] = [];
  const handoverMs = 100;
  await place.crew({
    hypervisor: (real) =>
      but(real, {
        handoverMs,
        startMigration: async (fence, terms) => {
          limits.push(terms.downtimeLimitMs);
          await real.startMigration(fence, terms);
        },
        setDowntimeLimit: async (...args) => {
          limits.push(args[3]);
          await real.setDowntimeLimit(...args);
        },
      }),
  });
  const id = await place.request(evacuate('a', { maxStallMs: 400 }));
  expect(await place.ended(id)).toMatchObject({ state: 'done' });
  expect(limits.length).toBeGreaterThan(1);
  expect(new Set(limits)).toEqual(new Set([300]));
});
