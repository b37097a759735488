/**
 * The least possible harm: an offline dynamic program that knows all of a guest beforehand. Same passes as
 * src/hypervisors/simulated/passes.ts, with the CPU time of each pass chosen freely between the floor and
 * all of it. How a share is spread within a pass does not matter there, so nothing is lost by choosing one figure for each.
 *
 * A pass's length follows from its bytes alone and is a whole number of bursts, so time needs no rounding but for the last
 * downtime. Bytes do: they stand on a grid of `step` bytes that has all lengths' bounds on it. Rounded up, a result is what
 * a strategy can really reach; rounded down, no strategy can do better. The truth lies between the two: less than 5% apart
 * for the reference guest at a floor of 5%, 8% where twenty passes at the floor follow one another.
 */
import type { Pattern } from '../../src/convergence/dirty-model.ts';
import { cpuMsToDirty, dirtiedBytes } from '../../src/convergence/dirtying.ts';

export interface OracleGuest {
  readonly pattern: Pattern;
  readonly rateBytesPerSec: number;
  readonly workingSetBytes: number;
  readonly touchedBytes: number;
  readonly memoryBytes: number;
  readonly demandCores: number;
}

export interface OracleTerms {
  readonly bandwidthBytesPerSec: number;
  /** What the last bytes are sent with: QEMU lifts its limit then. */
  readonly switchoverBytesPerSec: number;
  /** As the hypervisor is told it: max stall without the handover. */
  readonly downtimeLimitMs: number;
  readonly handoverMs: number;
  readonly floor: number;
  readonly maxTimeMs: number;
}

export interface Possible {
  readonly feasible: boolean;
  /** Downtime included; Infinity where nothing is feasible. */
  readonly harmCpuMs: number;
  /** CPU time as a share of each pass's length, the first pass first: what reaches that harm. */
  readonly shares: readonly number[];
}

export const BURST_MS = 100;
const PAGE_BYTES = 4_096;

/** What a pass does to its bytes, whatever the guest gets meanwhile. */
export interface Pass {
  readonly bursts: number;
  /** Of it, not sent. */
  readonly left: number;
  /** What the guest can dirty beside what waits. */
  readonly room: number;
  /** What is left as the source counts it, with zero pages. */
  readonly counted: number;
}

export function passOf(bytes: number, first: boolean, guest: OracleGuest, terms: OracleTerms): Pass {
  const perMs = terms.bandwidthBytesPerSec / 1_000;
  const counted = first ? guest.memoryBytes / guest.touchedBytes : 1;
  const toSend = Math.max(0, bytes - fitting(terms) / counted);
  const bursts = Math.max(1, Math.ceil(toSend / perMs / BURST_MS - 1e-6));
  const left = Math.max(0, bytes - bursts * BURST_MS * perMs);
  const waiting = first ? left * (guest.workingSetBytes / guest.touchedBytes) : left;
  return { bursts, left, room: Math.max(0, guest.workingSetBytes - waiting), counted: left * counted };
}

/** Bytes a pass has made dirty that do not wait anyway. */
export function dirtied(cpuMs: number, pass: Pass, guest: OracleGuest): number {
  const written = dirtiedBytes(guest, cpuMs);
  return written < PAGE_BYTES ? 0 : Math.min(written, pass.room);
}

export function fitting(terms: OracleTerms): number {
  return (terms.bandwidthBytesPerSec * terms.downtimeLimitMs) / 1_000;
}

/** What the last bytes cost in time. */
export function downtimeMs(bytes: number, terms: OracleTerms): number {
  return (bytes / terms.switchoverBytesPerSec) * 1_000 + terms.handoverMs;
}

export interface OracleOptions {
  /** `up`: a strategy reaches it; `down`: none is better. */
  readonly rounding?: 'up' | 'down';
  /** Steps of the grid in the bytes of one burst. */
  readonly stepsPerBurst?: number;
}

export function leastHarm(
  guest: OracleGuest,
  terms: OracleTerms,
  { rounding = 'up', stepsPerBurst = defaultSteps(guest, terms) }: OracleOptions = {},
): Possible {
  return new Program(guest, terms, rounding, stepsPerBurst).solve();
}

/** About 500 levels, and at least 4 in a burst. */
function defaultSteps(guest: OracleGuest, terms: OracleTerms): number {
  const burstBytes = (terms.bandwidthBytesPerSec * BURST_MS) / 1_000;
  return Math.max(4, Math.round(500 / Math.max(1, guest.workingSetBytes / burstBytes)));
}

/** CPU times tried in a pass, beside none more than the floor's and all of it. */
const CONTROLS = 40;

interface Move {
  readonly cpuMs: number;
  /** Bytes of the next pass, or of the switchover. */
  readonly next: number;
  readonly level: number;
  readonly ends: boolean;
}

interface Best {
  readonly harm: number;
  readonly move: Move | null;
}

class Program {
  readonly #guest: OracleGuest;
  readonly #terms: OracleTerms;
  readonly #up: boolean;
  readonly #stepBytes: number;
  readonly #fits: number;
  /** Whole bursts until the max time. */
  readonly #maxBursts: number;
  /** By level, what can be done in a pass of so many bytes. */
  readonly #movesAt = new Map<number, { readonly pass: Pass; readonly moves: readonly Move[] }>();
  readonly #levels: number;
  /** Least harm by bursts that are left, then by level; NaN: not known yet. */
  readonly #least: Float64Array[] = [];

  constructor(guest: OracleGuest, terms: OracleTerms, rounding: 'up' | 'down', stepsPerBurst: number) {
    this.#guest = guest;
    this.#terms = terms;
    this.#up = rounding === 'up';
    this.#stepBytes = (terms.bandwidthBytesPerSec * BURST_MS) / 1_000 / stepsPerBurst;
    this.#fits = fitting(terms);
    this.#maxBursts = Math.floor(terms.maxTimeMs / BURST_MS);
    this.#levels = this.#levelOf(guest.touchedBytes + guest.workingSetBytes) + 2;
  }

  solve(): Possible {
    const first = passOf(this.#guest.touchedBytes, true, this.#guest, this.#terms);
    const moves = this.#movesOf(first);
    let { harm, move } = this.#bestOf(first, moves, this.#maxBursts);
    if (!Number.isFinite(harm)) return { feasible: false, harmCpuMs: Number.POSITIVE_INFINITY, shares: [] };
    const shares: number[] = [];
    let pass = first;
    let burstsLeft = this.#maxBursts;
    while (move !== null) {
      shares.push(move.cpuMs / (pass.bursts * BURST_MS));
      burstsLeft -= pass.bursts;
      if (move.ends) break;
      const { level } = move;
      pass = this.#at(level).pass;
      move = this.#bestOf(pass, this.#at(level).moves, burstsLeft).move;
    }
    return { feasible: true, harmCpuMs: harm, shares };
  }

  /** Level n stands for the bytes that fit and n steps. */
  #levelOf(bytes: number): number {
    const steps = (bytes - this.#fits) / this.#stepBytes;
    // What came from the grid goes back to where it was.
    return Math.max(1, this.#up ? Math.ceil(steps - 1e-6) : Math.floor(steps + 1e-6));
  }

  #at(level: number): { readonly pass: Pass; readonly moves: readonly Move[] } {
    const known = this.#movesAt.get(level);
    if (known !== undefined) return known;
    const pass = passOf(this.#fits + level * this.#stepBytes, false, this.#guest, this.#terms);
    const made = { pass, moves: this.#movesOf(pass) };
    this.#movesAt.set(level, made);
    return made;
  }

  #movesOf(pass: Pass): Move[] {
    const ms = pass.bursts * BURST_MS;
    const leastMs = this.#terms.floor * ms;
    const cpuTimes = new Set<number>([leastMs, ms]);
    const consider = (bytes: number) => {
      const cpuMs = cpuMsToDirty(this.#guest, bytes);
      if (cpuMs > leastMs && cpuMs < ms && bytes <= pass.room) cpuTimes.add(cpuMs);
    };
    // As much as still fits, and less than a page.
    consider(this.#fits - pass.counted);
    consider(PAGE_BYTES * 0.999);
    // Up to the levels, the bounds of lengths among them; and between those that end it.
    const from = dirtied(leastMs, pass, this.#guest) + pass.left;
    const to = dirtied(ms, pass, this.#guest) + pass.left;
    const lowest = Math.max(0, this.#levelOf(from));
    const highest = this.#levelOf(to);
    const stride = Math.max(1, Math.floor((highest - lowest) / CONTROLS));
    for (let level = lowest; level <= highest; level += stride) {
      consider(this.#fits + level * this.#stepBytes - pass.left);
    }
    for (let part = 1; part < 10; part += 1) consider(((this.#fits - pass.counted) * part) / 10);
    // The gentlest first: what costs more already than the best so far is not followed.
    const gentlest = [...cpuTimes].sort((one, other) => other - one);
    return gentlest.map((cpuMs) => {
      const found = dirtied(cpuMs, pass, this.#guest);
      const next = pass.left + found;
      return { cpuMs, next, level: this.#levelOf(next), ends: pass.counted + found <= this.#fits * (1 + 1e-9) };
    });
  }

  #bestOf(pass: Pass, moves: readonly Move[], burstsLeft: number): Best {
    const ms = pass.bursts * BURST_MS;
    const after = burstsLeft - pass.bursts;
    let best: Best = { harm: Number.POSITIVE_INFINITY, move: null };
    if (after < 0) return best;
    for (const move of moves) {
      const spent = (ms - move.cpuMs) * this.#guest.demandCores;
      if (spent >= best.harm) break;
      const harm = spent + (move.ends ? this.#endsFor(move, after) : this.#value(move.level, after));
      if (harm < best.harm) best = { harm, move };
    }
    return best;
  }

  #endsFor(move: Move, burstsLeft: number): number {
    const ms = downtimeMs(move.next, this.#terms);
    const leftMs = this.#terms.maxTimeMs - (this.#maxBursts - burstsLeft) * BURST_MS;
    return ms <= leftMs + 1e-6 ? ms * this.#guest.demandCores : Number.POSITIVE_INFINITY;
  }

  #value(level: number, burstsLeft: number): number {
    let row = this.#least[burstsLeft];
    if (row === undefined) {
      row = new Float64Array(this.#levels).fill(Number.NaN);
      this.#least[burstsLeft] = row;
    }
    const known = row[level] ?? Number.NaN;
    if (!Number.isNaN(known)) return known;
    const { pass, moves } = this.#at(level);
    const { harm } = this.#bestOf(pass, moves, burstsLeft);
    row[level] = harm;
    return harm;
  }
}
