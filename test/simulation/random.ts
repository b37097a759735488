/** Chance from a seed: the same on every machine, and each purpose with a stream of its own. */
export class Random {
  #state: number;

  constructor(seed: number, purpose = '') {
    let mixed = seed >>> 0;
    for (const char of purpose) mixed = Math.imul(mixed ^ char.charCodeAt(0), 0x01000193) >>> 0;
    this.#state = (mixed ^ 0x9e3779b9) >>> 0;
  }

  /** [0, 1). Tommy Ettinger's mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
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
