/** Work on one thing at a time: who asks for the same meanwhile shares the outcome, who asks for something else waits. */

interface Running<T> {
  readonly question: string;
  readonly outcome: Promise<T>;
}

export class Shared<T> {
  readonly #last = new Map<string, Running<T>>();

  /** `key`: what is worked on; `question`: what is asked of it. */
  run(key: string, question: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    if (before?.question === question) return before.outcome;
    const outcome = before === undefined ? work() : before.outcome.then(work, work);
    const running = { question, outcome };
    this.#last.set(key, running);
    const over = (): void => {
      if (this.#last.get(key) === running) this.#last.delete(key);
    };
    outcome.then(over, over);
    return outcome;
  }
}
