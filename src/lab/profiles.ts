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
    pattern: 'sweep',
    unpaced: false,
    tickHz: 120,
    touchedBytes: 96 * MIB,
    phases: [{ ticks: FOR_EVER, pagesPerTick: 32, workingSetBytes: 64 * MIB }],
  },
  hot,
  big: {
    name: 'big',
    what: '1 GiB of memory, 700 MiB of it in use, writes 5 MiB/s over 32 MiB',
    memoryBytes: 1_024 * MIB,
    cpuShare: 0.1,
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
  return { pattern, unpaced, tickHz, delayLoops, touchedBytes, phases };
}
