/** A guest that runs free and surely ends in time is decided about every few seconds, and at once when there is news. */
import { expect, test } from 'vitest';
import type { ConvergenceSample } from '../../src/convergence/controller.ts';
import { leastHarm } from '../../src/convergence/least-harm.ts';
import { maintenance } from '../../src/convergence/policies/maintenance.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';

const MIB = 2 ** 20;
const RATE = 100 * MIB;
const TOTAL = 24 * 1_024 * MIB;

/** A quiet guest in its first pass, a sample a second. */
function run(changes: Readonly<Record<number, Partial<ConvergenceSample>>> = {}) {
  const chosenAt: number[] = [];
  let second = 0;
  const spied = {
    ...maintenance,
    name: 'spied',
    choose: (view: Parameters<typeof maintenance.choose>[0]) => {
      chosenAt.push(second);
      return maintenance.choose(view);
    },
  };
  const controller = leastHarm(new Map([['spied', spied]]));
  const policy = { ...POLICY_PRESETS.maintenance, name: 'spied' };
  const guest = { memoryBytes: TOTAL, touchedBytes: TOTAL, demandCores: 1 };
  const window = (atMs: number) => ({
    atMs,
    cpuMs: 1_000,
    bytes: 5 * MIB,
    errorBytes: MIB / 4,
    source: 'sampling' as const,
  });
  let state = controller.start(policy, { guest, evidence: [window(-2_000), window(-1_000)], nowMs: 0 });
  const leftMs: number[] = [];
  for (second = 1; second <= 30; second += 1) {
    const sample: ConvergenceSample = {
      atMs: second * 1_000,
      startedAtMs: 0,
      pass: 1,
      remainingBytes: TOTAL - second * RATE,
      transferredBytes: second * RATE,
      totalBytes: TOTAL,
      rateBytesPerSec: RATE,
      dirtyRateBytesPerSec: 0,
      grantBytesPerSec: RATE,
      share: 1,
      gotShare: 1,
      demandCores: 1,
      harmCpuMs: 0,
      windows: [],
      othersWait: false,
      ...changes[second],
    };
    const decision = controller.decide(state, sample, policy);
    state = decision.next;
    leftMs.push(decision.prediction?.totalMs.value ?? 0);
    expect(decision.action).toMatchObject({ kind: 'run', share: 1 });
  }
  return { chosenAt, leftMs };
}

test('its time runs down all the same', () => {
  const { chosenAt, leftMs } = run();
  expect(chosenAt.length).toBeGreaterThanOrEqual(5);
  expect(chosenAt.length).toBeLessThanOrEqual(10);
  for (const [index, left] of leftMs.slice(1).entries()) {
    expect((leftMs[index] ?? 0) - left).toBeGreaterThan(700);
    expect((leftMs[index] ?? 0) - left).toBeLessThan(1_300);
  }
});

test('what is new is seen at once: others that wait, another rate, another use of its CPU', () => {
  const before = run().chosenAt;
  const quiet = [17, 18, 19].find((second) => !before.includes(second)) ?? 0;
  expect(quiet).toBeGreaterThan(0);
  for (const news of [
    { othersWait: true },
    { rateBytesPerSec: 50 * MIB, grantBytesPerSec: 50 * MIB },
    { demandCores: 1.5 },
  ]) {
    expect(run({ [quiet]: news }).chosenAt).toContain(quiet);
  }
});
