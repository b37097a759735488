/**
 * The simulator against real QEMU: the same guest, the same bandwidth and downtime limit, the same share of its CPU from
 * the start, once through the adapter and the real throttle, once in virtual time. They agree within 20% on the total time.
 *
 * Measured alone on two cores (QEMU 10.0.2, TCG; five runs of each), ms:
 *
 *               real, median (range)     simulated
 *   idle    1      825 (814..827)              835
 *   mild    1    3,520 (3,514..3,562)        3,443
 *   mild    0.3  2,530 (2,515..2,562)        2,541
 *   mild    0.05 2,539 (2,459..2,575)        2,340
 *   hot     0.05 3,024 (2,862..3,135)        2,745
 *   random  0.05 2,787 (2,624..2,869)        2,747
 *
 * So one run tells. What others do on the machine is not simulated: a run that had too little CPU left is done again.
 */
import { availableParallelism } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { PROFILE_NAMES, type ProfileName, profileNamed } from '../../src/lab/profiles.ts';
import { describeWith } from '../support/needs.ts';
import { LabPlace } from './place.ts';
import { cpuTimes, othersCores } from './quiet.ts';
import { type Measured, migrateReally } from './real-migration.ts';
import { migrateSimulated, rateOf } from './twin.ts';

const MIB = 2 ** 20;
const SHARES = [1, 0.3, 0.05] as const;
const LIMITS = { bandwidthBytesPerSec: 40 * MIB, downtimeLimitMs: 250 };
const WITHIN = 0.2;
/** 2.4 s for the first pass of a hot guest, 1.4 s for each that follows. */
const SEVERAL_PASSES_MS = 12_000;

interface Pair {
  readonly profile: ProfileName;
  readonly share: (typeof SHARES)[number];
}

const FINISH: readonly Pair[] = [
  { profile: 'idle', share: 1 },
  { profile: 'idle', share: 0.3 },
  { profile: 'idle', share: 0.05 },
  { profile: 'mild', share: 1 },
  { profile: 'mild', share: 0.3 },
  { profile: 'mild', share: 0.05 },
  { profile: 'hot', share: 0.05 },
  { profile: 'random', share: 0.05 },
  { profile: 'big', share: 1 },
  { profile: 'big', share: 0.3 },
];

/** They write four times what is sent. */
const NEVER_FINISH: readonly Pair[] = [
  { profile: 'hot', share: 1 },
  { profile: 'random', share: 1 },
];

/** `share: null`: at every share. */
const LEFT_OUT: readonly { readonly profile: ProfileName; readonly share: number | null; readonly why: string }[] = [
  { profile: 'hot', share: 0.3, why: '48 MiB/s is near the bandwidth: whether it ever finishes is chance' },
  { profile: 'random', share: 0.3, why: '48 MiB/s is near the bandwidth: whether it ever finishes is chance' },
  { profile: 'brisk', share: null, why: 'as hot and a little slower: hot stands for it' },
  { profile: 'near', share: null, why: 'it writes about what is sent: when it ends is chance' },
  { profile: 'big', share: 0.05, why: 'takes 18 s like the other two, and its writes count for even less' },
  { profile: 'bursty', share: null, why: 'how long it takes depends on the phase in which it is started' },
  { profile: 'turning', share: null, why: 'how long it takes depends on the phase in which it is started' },
  { profile: 'fierce', share: 1, why: 'writes ten times what is sent, as hot and random four times' },
  { profile: 'fierce', share: 0.3, why: 'writes three times what is sent, as hot and random four times' },
  { profile: 'fierce', share: 0.05, why: '20 MiB/s over 128 MiB is what hot at 0.1 would be; hot stands for it' },
  { profile: 'large', share: null, why: 'a pass of it takes 6 s; nothing in it that hot does not have' },
  {
    profile: 'pair',
    share: null,
    why: "its second CPU writes nothing; a share is of both, and the simulator's of one",
  },
  { profile: 'reference', share: null, why: 'its rate is what this machine gives it, not stated' },
  { profile: 'spin', share: null, why: 'its rate is what this machine gives it, not stated' },
];

/** Beyond it the pair would not be near the bandwidth. */
const NEAR = 1.5;

describe('the pairs', () => {
  test('are all that there are, but for those that are left out with a reason', () => {
    const named = [...FINISH, ...NEVER_FINISH].map(({ profile, share }) => `${profile} ${share}`);
    const left = LEFT_OUT.flatMap(({ profile, share }) =>
      (share === null ? SHARES : [share]).map((each) => `${profile} ${each}`),
    );
    const all = PROFILE_NAMES.flatMap((profile) => SHARES.map((share) => `${profile} ${share}`));
    expect([...named, ...left].sort()).toEqual([...all].sort());
  });

  test('are well below the bandwidth, or well above it', () => {
    const ratio = ({ profile, share }: Pair): number =>
      (rateOf(profileNamed(profile)) * share) / LIMITS.bandwidthBytesPerSec;
    for (const pair of FINISH) expect(ratio(pair)).toBeLessThan(1 / NEAR);
    for (const pair of NEVER_FINISH) expect(ratio(pair)).toBeGreaterThan(NEAR);
  });
});

/** What one run takes at the most: a hot guest, its source's migration thread, its destination. The rest is the others'. */
const OWN_CORES = 1.2;
const QUIET_CORES = availableParallelism() - OWN_CORES;
const QUIET_FOR_MS = 1_000;
const QUIET_LIMIT_MS = 120_000;
const ATTEMPTS = 4;
const TIMEOUT_MS = 400_000;

describeWith(['qemu', 'root', 'cgroup'], 'the simulator and real QEMU', () => {
  let place: LabPlace;
  const lines: string[] = [];

  beforeAll(() => {
    place = new LabPlace();
  });
  afterAll(async () => {
    console.info(
      ['profile share   real ms  simulated  ratio   downtime, r, share got, of others', ...lines].join('\n'),
    );
    await place.close();
  });

  for (const { profile, share } of FINISH) {
    test(`${profile} at share ${share}: total times within 20%`, { timeout: TIMEOUT_MS }, async () => {
      const terms = { share, ...LIMITS, limitMs: 60_000 };
      const simulated = migrateSimulated(profileNamed(profile), terms);
      const real = await counted(place, { profile, share }, terms.limitMs);
      lines.push(lineOf({ profile, share }, real, simulated?.totalMs ?? null));
      // Both were given the same guest.
      near(real.freeRateBytesPerSec, rateOf(profileNamed(profile)), 0.1);
      near(simulated?.totalMs ?? Number.NaN, real.totalMs ?? Number.NaN, WITHIN);
    });
  }

  for (const { profile, share } of NEVER_FINISH) {
    test(`${profile} at share ${share}: neither finishes, and the dirty rate reported is the bandwidth`, {
      timeout: TIMEOUT_MS,
    }, async () => {
      const terms = { share, ...LIMITS, limitMs: SEVERAL_PASSES_MS };
      expect(migrateSimulated(profileNamed(profile), terms)).toBeNull();
      const real = await counted(place, { profile, share }, terms.limitMs);
      lines.push(lineOf({ profile, share }, real, null));
      expect(real.totalMs).toBeNull();
      expect(real.passes).toBeGreaterThanOrEqual(5);
      near(real.dirtyRateBytesPerSec, LIMITS.bandwidthBytesPerSec, 0.1);
    });
  }
});

function near(value: number, expected: number, within: number): void {
  expect(value).toBeGreaterThan(expected * (1 - within));
  expect(value).toBeLessThan(expected * (1 + within));
}

/** A run that nobody disturbed. Throws when there is none: then nothing has been measured. */
async function counted(place: LabPlace, { profile, share }: Pair, limitMs: number): Promise<Measured> {
  const disturbed: string[] = [];
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    await untilQuiet();
    const run = await migrateReally(place, { profile, share, ...LIMITS, limitMs });
    if (run.othersCores < QUIET_CORES) return run;
    disturbed.push(`${run.totalMs} ms beside ${run.othersCores.toFixed(2)} cores`);
  }
  throw new Error(`this machine is too busy to measure ${profile} at ${share}: ${disturbed.join(', ')}`);
}

async function untilQuiet(): Promise<void> {
  for (const since = performance.now(); ; ) {
    const before = cpuTimes([]);
    await abortableSleep(QUIET_FOR_MS);
    const cores = othersCores(before, cpuTimes([]));
    if (cores < QUIET_CORES) return;
    if (performance.now() - since > QUIET_LIMIT_MS) {
      throw new Error(`this machine is too busy to measure anything: others use ${cores.toFixed(2)} cores`);
    }
  }
}

function lineOf({ profile, share }: Pair, real: Measured, simulatedMs: number | null): string {
  const ms = (value: number | null): string => (value === null ? 'never' : value.toFixed(0)).padStart(9);
  const ratio = simulatedMs === null || real.totalMs === null ? '' : (simulatedMs / real.totalMs).toFixed(2);
  const columns = [profile.padEnd(7), String(share).padEnd(5), ms(real.totalMs), ms(simulatedMs), ratio.padStart(6)];
  const rate = (real.rateBytesPerSec / MIB).toFixed(1);
  const measured = [`${real.downtimeMs ?? '-'} ms`, `${rate} MiB/s`, real.gotShare.toFixed(2)];
  return `${columns.join(' ')}   ${measured.join(', ')}, ${real.othersCores.toFixed(2)} cores`;
}
