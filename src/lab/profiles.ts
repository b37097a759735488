/**
 * The lab's guests by name: how much memory, how much of it they write how fast, and how much CPU that takes. Rates are set
 * by the guest's timer and so the same on every machine that can keep up; measured figures stand in docs/lab.md. Pure.
 */
import type { GuestParameters, GuestPhase } from './guest/layout.ts';

const MIB = 2 ** 20;

export interface GuestProfile {
  readonly name: string;
  /** For people. */
  readonly what: string;
  readonly memoryBytes: number;
  /** Of a core, spent on empty loops between the writes at the rate of the busiest phase. */
  readonly cpuShare: number;
  /** Only the first writes. */
  readonly vcpus: 1 | 2;
  /** Of a core, that the second one uses, if there is one. */
  readonly secondCpuShare: number;
  readonly pattern: GuestParameters['pattern'];
  readonly unpaced: boolean;
  readonly tickHz: number;
  readonly touchedBytes: number;
  readonly phases: readonly GuestPhase[];
}

const FOR_EVER = 1_000_000_000;

const hot: GuestProfile = {
  name: 'hot',
  what: 'writes 160 MiB/s, again and again the same 64 MiB: must be throttled on a slow link',
  memoryBytes: 256 * MIB,
  // So much that taking CPU away takes writes away in proportion, and so little that it keeps its rate beside others.
  cpuShare: 0.5,
  vcpus: 1,
  secondCpuShare: 0,
  pattern: 'sweep',
  unpaced: false,
  tickHz: 256,
  touchedBytes: 96 * MIB,
  phases: [{ ticks: FOR_EVER, pagesPerTick: 160, workingSetBytes: 64 * MIB }],
};

export const PROFILES = {
  idle: {
    name: 'idle',
    what: 'writes next to nothing',
    memoryBytes: 128 * MIB,
    cpuShare: 0,
    vcpus: 1,
    secondCpuShare: 0,
    pattern: 'sweep',
    unpaced: false,
    tickHz: 20,
    touchedBytes: 32 * MIB,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 1, workingSetBytes: MIB }],
  },
  mild: {
    name: 'mild',
    what: 'writes 15 MiB/s over 64 MiB',
    memoryBytes: 128 * MIB,
    cpuShare: 0.15,
    vcpus: 1,
    secondCpuShare: 0,
    pattern: 'sweep',
    unpaced: false,
    tickHz: 120,
    touchedBytes: 96 * MIB,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 32, workingSetBytes: 64 * MIB }],
  },
  hot,
  brisk: {
    ...hot,
    name: 'brisk',
    what: 'writes 100 MiB/s over 64 MiB with a third of a core: hot, and several fit on a small machine',
    cpuShare: 0.34,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 100, workingSetBytes: 64 * MIB }],
  },
  near: {
    ...hot,
    name: 'near',
    what: 'writes 36 MiB/s over 64 MiB, about what a slow link carries: when its migration ends is chance',
    cpuShare: 0.3,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 36, workingSetBytes: 64 * MIB }],
  },
  big: {
    name: 'big',
    what: '1 GiB of memory, 700 MiB of it in use, writes 5 MiB/s over 32 MiB',
    memoryBytes: 1_024 * MIB,
    cpuShare: 0.1,
    vcpus: 1,
    secondCpuShare: 0,
    pattern: 'sweep',
    unpaced: false,
    tickHz: 128,
    touchedBytes: 700 * MIB,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 10, workingSetBytes: 32 * MIB }],
  },
  random: { ...hot, name: 'random', what: 'as hot, but pages at random', pattern: 'random' },
  bursty: {
    ...hot,
    name: 'bursty',
    what: 'by turns nearly idle for 10 s and hot for 10 s',
    phases: [
      { ticks: 2_560, pagesPerTick: 1, workingSetBytes: MIB },
      { ticks: 2_560, pagesPerTick: 160, workingSetBytes: 64 * MIB },
    ],
  },
  fierce: {
    ...hot,
    name: 'fierce',
    what: 'writes 400 MiB/s over 128 MiB: ten times what a slow link carries',
    memoryBytes: 256 * MIB,
    touchedBytes: 160 * MIB,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 400, workingSetBytes: 128 * MIB }],
  },
  large: {
    ...hot,
    name: 'large',
    what: 'writes 120 MiB/s over 256 MiB: each page every two seconds',
    memoryBytes: 512 * MIB,
    touchedBytes: 320 * MIB,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 120, workingSetBytes: 256 * MIB }],
  },
  turning: {
    ...hot,
    name: 'turning',
    what: 'hot for 5 s, mild for 15 s, then hot for good',
    touchedBytes: 192 * MIB,
    phases: [
      { ticks: 5 * 256, pagesPerTick: 160, workingSetBytes: 64 * MIB },
      { ticks: 15 * 256, pagesPerTick: 15, workingSetBytes: 64 * MIB },
      { ticks: FOR_EVER, pagesPerTick: 160, workingSetBytes: 64 * MIB },
    ],
  },
  pair: {
    ...hot,
    name: 'pair',
    what: 'two CPUs: one writes 120 MiB/s over 64 MiB, the other only computes',
    cpuShare: 0.4,
    vcpus: 2,
    secondCpuShare: 0.3,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 120, workingSetBytes: 64 * MIB }],
  },
  reference: {
    ...hot,
    name: 'reference',
    what: 'takes a whole core for writing about 164 MiB/s over all that it uses, 64 MiB',
    // Never halts: a core's worth of loops and writes makes that rate on any machine.
    unpaced: true,
    // A write takes CPU time, too.
    cpuShare: 0.99,
    touchedBytes: 64 * MIB,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 164, workingSetBytes: 64 * MIB }],
  },
  spin: {
    ...hot,
    name: 'spin',
    what: 'never halts: takes a whole core and writes 64 MiB as fast as that goes',
    unpaced: true,
    // Its rate is what the CPU gives: as many loops for a write as a hot guest's.
    cpuShare: 0.5,
  },
} as const satisfies Readonly<Record<string, GuestProfile>>;

export type ProfileName = keyof typeof PROFILES;
export const PROFILE_NAMES = Object.keys(PROFILES).filter((name): name is ProfileName => Object.hasOwn(PROFILES, name));

export function profileNamed(name: ProfileName): GuestProfile {
  return PROFILES[name];
}

/** What the guest is started with on a machine that runs so many of its empty loops in a second of CPU time. */
export function parametersOf(profile: GuestProfile, loopsPerCpuSec: number): GuestParameters {
  const { pattern, unpaced, tickHz, touchedBytes, phases } = profile;
  const writesPerSec = tickHz * Math.max(...phases.map((phase) => phase.pagesPerTick));
  const delayLoops = Math.round((profile.cpuShare * loopsPerCpuSec) / writesPerSec);
  const secondLoops = Math.max(1, Math.round((profile.secondCpuShare * loopsPerCpuSec) / tickHz));
  return { pattern, unpaced, tickHz, delayLoops, secondLoops, touchedBytes, phases };
}
