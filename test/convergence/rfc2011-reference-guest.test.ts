/**
 * The RFC's controller on the reference guest of the measurements (W 64 MiB, r 164 MiB/s, 40 MiB/s, stall limit 300 ms), in
 * the simulator: documents where the 2011 algorithm stops, and why.
 *
 * The trap is saturation. The guest dirties its whole working set several times within a pass; what the hypervisor
 * reports is unique bytes per pass, W per (W / bandwidth) seconds: the transfer rate. minGuestCpu = migrationRate /
 * dirtyRate * guestCpu then is about guestCpu, whatever that is: an equilibrium at every share. At aggression 0 nothing
 * ever pushes the controller away from full speed. Any aggression above 0 does, tick by tick, as a factor below 1 on the
 * share that it found; so it is the aggression that makes this guest converge, not the formula.
 */
import { describe, expect, test } from 'vitest';
import type { ConvergenceSample } from '../../src/convergence/controller.ts';
import { rfc2011 } from '../../src/convergence/rfc2011.ts';
import type { Reason } from '../../src/domain/errors.ts';
import { POLICY_PRESETS, type Policy } from '../../src/domain/policy.ts';
import { guestCpuOf, sampleOf } from '../../src/hypervisors/simulated/views.ts';
import { fleetOf, host, MIB, PureFleet, REFERENCE_GUEST } from '../hypervisors/simulated/fleets.ts';

const GRANT = 40 * MIB;
const TICK_MS = 1_000;

interface Run {
  readonly status: string;
  readonly totalMs: number;
  readonly abort: Reason | null;
  readonly shares: readonly number[];
  /** Of the last whole pass, at each tick that had one. */
  readonly reportedRates: readonly number[];
}

/** Ticks until the migration ends or the controller gives up, at the latest after twice the max time. */
function drive(policy: Policy): Run {
  const fleet = new PureFleet(fleetOf([host('a', [REFERENCE_GUEST]), host('b')]));
  fleet.migrate('ref', 'a', 'b', { bandwidthBytesPerSec: GRANT, downtimeLimitMs: policy.maxStallMs });
  let state = rfc2011.start(policy, {
    guest: { memoryBytes: 256 * MIB, touchedBytes: 64 * MIB, demandCores: 1 },
    evidence: [],
    nowMs: 0,
  });
  const shares: number[] = [];
  const reportedRates: number[] = [];
  let cpu = guestCpuOf(fleet.state, 'a', 'ref');
  const limitMs = 2 * policy.maxTimeMs;
  for (let atMs = TICK_MS; atMs <= limitMs; atMs += TICK_MS) {
    const sample = sampleOf(fleet.at(atMs).state, 'a', 'ref');
    if (sample === null) throw new Error('no migration');
    if (sample.status === 'switchover') continue;
    if (sample.status !== 'active') return { status: sample.status, totalMs: atMs, abort: null, shares, reportedRates };
    const before = cpu;
    cpu = guestCpuOf(fleet.state, 'a', 'ref');
    const evidence: ConvergenceSample = {
      atMs,
      startedAtMs: 0,
      pass: sample.pass,
      remainingBytes: sample.remainingBytes,
      transferredBytes: sample.transferredBytes,
      totalBytes: sample.totalBytes,
      rateBytesPerSec: sample.rateBytesPerSec,
      dirtyRateBytesPerSec: sample.dirtyRateBytesPerSec,
      grantBytesPerSec: GRANT,
      share: cpu.share,
      gotShare: (cpu.gotCpuMs - before.gotCpuMs) / ((cpu.atMs - before.atMs) * cpu.demandCores),
      demandCores: cpu.demandCores,
      harmCpuMs: 0,
      windows: [],
    };
    if (sample.pass > 1) reportedRates.push(sample.dirtyRateBytesPerSec);
    const { action, next } = rfc2011.decide(state, evidence, policy);
    state = next;
    if (action.kind === 'postCopy') throw new Error(action.reason.message);
    if (action.kind === 'abort') {
      fleet.does({ kind: 'cancelMigration', vm: 'ref', source: 'a' });
      return { status: 'aborted', totalMs: atMs, abort: action.reason, shares, reportedRates };
    }
    shares.push(action.share);
    if (action.share !== cpu.share) fleet.throttle('ref', 'a', action.share);
  }
  return { status: 'active', totalMs: limitMs, abort: null, shares, reportedRates };
}

const policy = (aggression: number, more: Partial<Policy> = {}): Policy => ({
  ...POLICY_PRESETS.maintenance,
  aggression,
  ...more,
});

describe('rfc2011 on the reference guest', () => {
  test('at aggression 0 never converges, because the reported dirty rate is the transfer rate at any share, and aborts at the max time', () => {
    const run = drive(policy(0));
    expect(run.status).toBe('aborted');
    expect(run.abort?.code).toBe('maxTimeExceeded');
    expect(run.totalMs).toBe(policy(0).maxTimeMs + TICK_MS);
    // The formula sees an equilibrium near full speed and stays there, while 164 MiB/s are really dirtied.
    for (const rate of run.reportedRates) expect(Math.abs(rate / GRANT - 1)).toBeLessThan(0.05);
    expect(Math.min(...run.shares)).toBeGreaterThan(0.9);
  });

  test('at aggression 1 converges within seconds, because the floor lies below what the network can clean', () => {
    const run = drive(policy(1));
    expect(run).toMatchObject({ status: 'completed', abort: null });
    expect(run.totalMs).toBeLessThan(10_000);
    expect(new Set(run.shares)).toEqual(new Set([policy(1).minCpuShare]));
  });

  test('at aggression 1 with a floor above what the network can clean does not converge either, and says which knob is left', () => {
    // 164 MiB/s at half its CPU is 82 MiB/s, twice the bandwidth: the working set is dirty again after every pass.
    const run = drive(policy(1, { minCpuShare: 0.5 }));
    expect(run.abort).toMatchObject({ code: 'maxTimeExceeded', message: expect.stringContaining('min CPU') });
  });

  test('at the aggression of an evacuation converges: each look takes a factor off a share that always seems to be just right', () => {
    const run = drive(policy(POLICY_PRESETS.maintenance.aggression));
    expect(run.status).toBe('completed');
    expect(run.totalMs).toBeLessThan(60_000);
    expect(Math.min(...run.shares)).toBeLessThan(0.3);
  });
});
