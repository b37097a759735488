/**
 * The guest's parameters, where they stand in its boot sector, and what it leaves in its memory: the other half of
 * guest.S, whose names these are. Pure.
 */
import { HostevacError } from '../../domain/errors.ts';
import { GUEST_PROGRAM } from './program.ts';

export const PAGE_BYTES = 4_096;
const MIB = 2 ** 20;

/** Where the memory that is written begins. */
export const BASE = MIB;
export const SALT = 0x48455647;
/** Of the words in every page that are their own address ^ SALT. */
export const ADDRESS_WORDS = [0x10, 0x410, 0x810, 0xc10] as const;
/** Of the two words in every page that count the writes to it. */
export const COUNT_WORDS = [0, 0xffc] as const;

/** Where the sector is in memory, and the parameters in the sector. */
export const SECTOR = 0x7c00;
const SECTOR_BYTES = 512;
export const PARAMETERS = 0x1ac;
/** Words after the magic: flags, divisor, delay, end, then three of a second CPU's program, with its loops in them. */
const FIRST_PHASE = 7;
const SECOND_LOOPS_AT = 4 * (1 + 4) + 2;
const PHASE_WORDS = 3;
const MAX_PHASES = 4;
export const PARAMETER_BYTES = 4 * (1 + FIRST_PHASE + MAX_PHASES * PHASE_WORDS);
export const STATE = 0x9000;
export const STATE_BYTES = 40;

const MAGIC = 'HEVG';
const READY = 0x59444552;
/** The PC's timer counts at this rate; its divisor has 16 bits. */
const TIMER_HZ = 1_193_182;
/** The firmware keeps tables in the last part of memory; and above 2 GiB a 32-bit machine has holes. */
export const RESERVED_BYTES = 16 * MIB;
const MAX_TOUCHED_BYTES = 2_048 * MIB;

export interface GuestPhase {
  /** Timer ticks that it lasts. Ticks that a throttled guest misses do not count. */
  readonly ticks: number;
  readonly pagesPerTick: number;
  readonly workingSetBytes: number;
}

export interface GuestParameters {
  readonly pattern: 'sweep' | 'random';
  /** True: never halts; `pagesPerTick` pages are written as fast as it goes, again and again. */
  readonly unpaced: boolean;
  /** 19..10_000 timer ticks per second. */
  readonly tickHz: number;
  /** Empty loops after each write: what makes a guest that writes little use CPU. */
  readonly delayLoops: number;
  /** Empty loops that a second CPU does at every tick, at least 1; without one, nothing. It writes to no memory. */
  readonly secondLoops: number;
  /** Memory that is no zero page, from 1 MiB on; the working sets are the first part of it. */
  readonly touchedBytes: number;
  /** 1..4, one after the other, then again from the first. */
  readonly phases: readonly GuestPhase[];
}

export interface GuestState {
  /** False: still filling its memory, or no guest of ours. */
  readonly booted: boolean;
  readonly progress: number;
  readonly ticks: number;
  /** Ticks that came before the work of the last one was done: the machine is too slow, or the guest throttled. */
  readonly late: number;
  readonly sweeps: number;
}

/** A disk image of one sector that boots into a guest of these parameters. Throws `badInput`. */
export function guestImage(parameters: GuestParameters): Buffer {
  refuseImpossible(parameters);
  const image = Buffer.from(GUEST_PROGRAM, 'base64');
  const { phases } = parameters;
  const patch = (first: number, words: readonly number[]): void => {
    words.forEach((word, index) => {
      image.writeUInt32LE(word, PARAMETERS + 4 * (1 + first + index));
    });
  };
  patch(0, [
    (parameters.pattern === 'random' ? 1 : 0) | (parameters.unpaced ? 2 : 0),
    Math.round(TIMER_HZ / parameters.tickHz),
    parameters.delayLoops,
    BASE + parameters.touchedBytes,
  ]);
  image.writeUInt32LE(parameters.secondLoops, PARAMETERS + SECOND_LOOPS_AT);
  patch(
    FIRST_PHASE,
    phases.flatMap(({ ticks, pagesPerTick, workingSetBytes }) => [ticks, pagesPerTick, workingSetBytes / PAGE_BYTES]),
  );
  return image;
}

function refuseImpossible({ tickHz, delayLoops, secondLoops, touchedBytes, phases }: GuestParameters): void {
  const count = (value: number, least: number, most: number): boolean =>
    Number.isInteger(value) && value >= least && value <= most;
  const faults = [
    count(tickHz, 19, 10_000) ? null : `tickHz ${tickHz} is no whole number of 19 to 10000`,
    count(delayLoops, 0, 2 ** 31) ? null : `delayLoops ${delayLoops} is no whole number of 0 to 2^31`,
    count(secondLoops, 1, 2 ** 31) ? null : `secondLoops ${secondLoops} is no whole number of 1 to 2^31`,
    count(touchedBytes / PAGE_BYTES, 1, MAX_TOUCHED_BYTES / PAGE_BYTES)
      ? null
      : `touchedBytes ${touchedBytes} is no whole number of pages up to 2 GiB`,
    count(phases.length, 1, MAX_PHASES) ? null : `${phases.length} phases; a guest has 1 to ${MAX_PHASES}`,
    ...phases.map(({ ticks, pagesPerTick, workingSetBytes }, index) =>
      count(ticks, 1, 2 ** 31 - 1) &&
      count(pagesPerTick, 0, 2 ** 31) &&
      count(workingSetBytes / PAGE_BYTES, 1, touchedBytes / PAGE_BYTES)
        ? null
        : `phase ${index}: ${ticks} ticks, ${pagesPerTick} pages per tick, working set ${workingSetBytes} (whole pages, at most ${touchedBytes})`,
    ),
  ].filter((fault) => fault !== null);
  if (faults.length > 0) throw new HostevacError('badInput', `no such guest: ${faults.join('; ')}`);
}

/** What a guest's memory says that it was started with; undefined when there is no guest of ours in it. */
export function parseParameters(block: Buffer): GuestParameters | undefined {
  if (block.length < PARAMETER_BYTES || block.toString('latin1', 0, 4) !== MAGIC) return undefined;
  const word = (index: number): number => block.readUInt32LE(4 + 4 * index);
  const phases: GuestPhase[] = [];
  const end = FIRST_PHASE + MAX_PHASES * PHASE_WORDS;
  for (let at = FIRST_PHASE; at < end && word(at) > 0; at += PHASE_WORDS) {
    phases.push({ ticks: word(at), pagesPerTick: word(at + 1), workingSetBytes: word(at + 2) * PAGE_BYTES });
  }
  return {
    pattern: (word(0) & 1) === 1 ? 'random' : 'sweep',
    unpaced: (word(0) & 2) === 2,
    tickHz: Math.round(TIMER_HZ / word(1)),
    delayLoops: word(2),
    secondLoops: block.readUInt32LE(SECOND_LOOPS_AT),
    touchedBytes: word(3) - BASE,
    phases,
  };
}

export function parseState(block: Buffer): GuestState {
  return {
    booted: block.readUInt32LE(12) === READY,
    progress: Number(block.readBigUInt64LE(0)),
    ticks: block.readUInt32LE(8),
    late: block.readUInt32LE(24),
    sweeps: block.readUInt32LE(28),
  };
}

/** True for the sector that `guestImage` makes, whatever its parameters. */
export function isGuestImage(image: Buffer): boolean {
  return image.length === SECTOR_BYTES && image.toString('latin1', PARAMETERS, PARAMETERS + 4) === MAGIC;
}
