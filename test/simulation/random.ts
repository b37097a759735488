/** Chance from a seed: the same on every machine, and each purpose with a stream of its own. */
import { mulberry32 } from '../../src/clock/virtual-clock.ts';

export class Random {
  readonly #draw: () => number;

  constructor(seed: number, purpose = '') {
    let mixed = seed >>> 0;
    for (const char of purpose) mixed = Math.imul(mixed ^ char.charCodeAt(0), 0x01000193) >>> 0;
    this.#draw = mulberry32((mixed ^ 0x9e3779b9) >>> 0);
  }

  /** [0, 1). */
  next(): number {
    return this.#draw();
  }

  happens(probability: number): boolean {
    return this.next() < probability;
  }

  /** Whole, both ends included. */
  whole(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1));
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  /** Most of them small. */
  skewed(from: number, to: number): number {
    return from * (to / from) ** this.next();
  }

  one<T>(of: readonly T[]): T {
    const found = of[this.whole(0, of.length - 1)];
    if (found === undefined) throw new RangeError('nothing to choose from');
    return found;
  }
}
