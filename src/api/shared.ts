/** Work that many may ask for and that costs something: shared by those who ask for the same, and so much of it at once. */
import { HostevacError } from '../domain/errors.ts';

interface Asked<T> {
  readonly outcome: Promise<T>;
  readonly abort: AbortController;
  waiting: number;
}

const PER_KEY = 4;
const IN_ALL = 32;

/** One piece of work on a thing at a time. Who asks for the same meanwhile shares the outcome; other questions wait. */
export class Shared<T> {
  readonly #byKey = new Map<string, Map<string, Asked<T>>>();
  #count = 0;

  /**
   * `key`: what is worked on; `question`: what is asked of it. The work's signal aborts when nobody waits for it any more.
   * Throws `tooManyRequests`.
   */
  async run(key: string, question: string, gone: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const asked = this.#asked(key, question, work);
    asked.waiting += 1;
    const leave = (): void => {
      asked.waiting -= 1;
      if (asked.waiting > 0) return;
      // Nobody may join what is being given up.
      this.#forget(key, question, asked);
      asked.abort.abort(new HostevacError('cancelled', 'nobody waits for it any more'));
    };
    if (gone.aborted) leave();
    else gone.addEventListener('abort', leave, { once: true });
    try {
      return await asked.outcome;
    } finally {
      gone.removeEventListener('abort', leave);
    }
  }

  #asked(key: string, question: string, work: (signal: AbortSignal) => Promise<T>): Asked<T> {
    const others = this.#byKey.get(key) ?? new Map<string, Asked<T>>();
    const same = others.get(question);
    if (same !== undefined) return same;
    if (others.size >= PER_KEY || this.#count >= IN_ALL) {
      const where = others.size >= PER_KEY ? `of ${JSON.stringify(key)} ` : '';
      throw new HostevacError(
        'tooManyRequests',
        `as much is asked ${where}already as is worked on; try again in a moment`,
      );
    }
    const abort = new AbortController();
    const before = [...others.values()].at(-1)?.outcome ?? Promise.resolve();
    const begin = (): Promise<T> => {
      abort.signal.throwIfAborted();
      return work(abort.signal);
    };
    const outcome = before.then(begin, begin);
    const asked = { outcome, abort, waiting: 0 };
    this.#byKey.set(key, others.set(question, asked));
    this.#count += 1;
    const over = (): void => {
      this.#count -= 1;
      this.#forget(key, question, asked);
    };
    outcome.then(over, over);
    return asked;
  }

  #forget(key: string, question: string, asked: Asked<T>): void {
    const others = this.#byKey.get(key);
    if (others?.get(question) !== asked) return;
    others.delete(question);
    if (others.size === 0) this.#byKey.delete(key);
  }
}

/** So many pieces of work at once; so many more wait for their turn. */
export class Few {
  readonly #atOnce: number;
  readonly #mayWait: number;
  readonly #what: string;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(atOnce: number, mayWait: number, what: string) {
    this.#atOnce = atOnce;
    this.#mayWait = mayWait;
    this.#what = what;
  }

  /** Throws `tooManyRequests`. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#running < this.#atOnce) this.#running += 1;
    else {
      if (this.#waiting.length >= this.#mayWait) {
        const message = `${this.#running + this.#waiting.length} ${this.#what} already; try again in a moment`;
        throw new HostevacError('tooManyRequests', message);
      }
      // Whoever ends hands its place on.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
