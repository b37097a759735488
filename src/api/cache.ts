/** Values that are read for many askers at once: one read at a time, its outcome given to everyone for a short while. */

/** Where somebody always asks, nobody waits: what is a little older is given while it is read anew. */
const STALE_FACTOR = 3;

export class Cached<T> {
  readonly #read: () => Promise<T>;
  readonly #forMs: number;
  #value: { readonly value: T; readonly atMs: number } | null = null;
  #reading: Promise<T> | null = null;

  constructor(forMs: number, read: () => Promise<T>) {
    this.#forMs = forMs;
    this.#read = read;
  }

  /**
   * What was read at most `forMs` ago, or, while it is read anew, at most three times that. A read that fails is told to those
   * who wait for it, and not kept.
   */
  get(): Promise<T> {
    const known = this.#value;
    const age = known === null ? Number.POSITIVE_INFINITY : performance.now() - known.atMs;
    if (known === null || age >= this.#forMs * STALE_FACTOR) return this.#reading ?? this.#begin();
    if (age >= this.#forMs && this.#reading === null) this.#begin().catch(() => undefined);
    return Promise.resolve(known.value);
  }

  /** Whoever asks next has it read anew: nothing is lost with it. */
  get isWorthless(): boolean {
    const atMs = this.#value?.atMs ?? Number.NEGATIVE_INFINITY;
    return this.#reading === null && performance.now() - atMs >= this.#forMs * STALE_FACTOR;
  }

  /** Forgets what was read; what is being read now is for those who asked before. */
  drop(): void {
    this.#value = null;
    this.#reading = null;
  }

  #begin(): Promise<T> {
    const over = (): boolean => {
      const current = this.#reading === reading;
      if (current) this.#reading = null;
      return current;
    };
    const reading: Promise<T> = this.#read().then(
      (value) => {
        // Dropped meanwhile: it may be from before the change that it was dropped for.
        if (over()) this.#value = { value, atMs: performance.now() };
        return value;
      },
      (error: unknown) => {
        over();
        throw error;
      },
    );
    this.#reading = reading;
    return reading;
  }
}

/** One `Cached` for each key; dropped when they are worth nothing any more, and the oldest when there are many. */
export class CachedByKey<T> {
  readonly #forMs: number;
  readonly #read: (key: string) => Promise<T>;
  readonly #most: number;
  readonly #byKey = new Map<string, Cached<T>>();

  constructor(forMs: number, read: (key: string) => Promise<T>, most = 500) {
    this.#forMs = forMs;
    this.#read = read;
    this.#most = most;
  }

  get(key: string): Promise<T> {
    const known = this.#byKey.get(key) ?? new Cached(this.#forMs, () => this.#read(key));
    this.#byKey.delete(key);
    this.#byKey.set(key, known);
    const value = known.get();
    for (const [oldest, cached] of this.#byKey) {
      if (this.#byKey.size <= this.#most && !cached.isWorthless) break;
      this.#byKey.delete(oldest);
    }
    return value;
  }

  /** Without a key: all of them. */
  drop(key?: string): void {
    if (key === undefined) this.#byKey.clear();
    else this.#byKey.delete(key);
  }
}
