/** What a guest is held to that must go now, and how long it may stand still for that. */
import { expect, test } from 'vitest';
import type { DirtyModel } from '../../src/convergence/dirty-model.ts';
import { downtimeLimit } from '../../src/convergence/downtime.ts';
import { forced } from '../../src/convergence/forcing.ts';
import type { Standing } from '../../src/convergence/forward.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import { MIB } from '../hypervisors/simulated/fleets.ts';

const NOTHING = { value: null, low: 0, high: null };
/** However little CPU it gets, it dirties more than a fast link carries. */
const FIERCE: DirtyModel = {
  rateBytesPerSec: NOTHING,
  workingSetBytes: NOTHING,
  pattern: null,
  hypotheses: [{ rateBytesPerSec: 80_000 * MIB, workingSetBytes: 4_096 * MIB, pattern: 'sweep', weight: 1 }],
  change: null,
};

function stallUnder(handoverMs: number | undefined): number {
  const from: Standing = {
    pass: 2,
    leftBytes: 4_096 * MIB,
    cpuMsInPass: 0,
    passElapsedMs: 0,
    bandwidthBytesPerSec: 400 * MIB,
    downtimeLimitMs: downtimeLimit(300, handoverMs),
    guest: { memoryBytes: 8_192 * MIB, touchedBytes: 8_192 * MIB, demandCores: 1, handoverMs },
  };
  const forcing = { stallMs: 300, timeLeftMs: 0, why: 'its time is over' };
  const { maxStallMs, relaxed } = forced(from, FIERCE, POLICY_PRESETS.maintenance, forcing);
  expect(relaxed.map(({ requirement }) => requirement)).toContain('maxStall');
  return maxStallMs;
}

test('a standstill has room for the handover of its hypervisor, so that the limit for the last bytes is the same', () => {
  expect(stallUnder(undefined)).toBeGreaterThan(5_000);
  expect(stallUnder(50)).toBe(stallUnder(undefined));
  expect(downtimeLimit(stallUnder(100), 100)).toBeCloseTo(downtimeLimit(stallUnder(50), 50), 6);
});
