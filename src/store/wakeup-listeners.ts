/** The listeners of one process by topic. Who wakes them (another call in memory, a Redis message) is the adapter's business. */
import { type Clock, OVER } from '../clock/clock.ts';
import type { WakeupListener } from './cell.ts';

export class WakeupListeners {
  readonly #clock: Clock;
  readonly #byTopic = new Map<string, Set<TopicListener>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `onClose` is called once, with whether this was the topic's last listener. */
  add(topic: string, onClose: (last: boolean) => Promise<void>): WakeupListener {
    const listeners = this.#byTopic.get(topic) ?? new Set();
    this.#byTopic.set(topic, listeners);
    const listener = new TopicListener(this.#clock, () => {
      listeners.delete(listener);
      const last = listeners.size === 0;
      if (last) this.#byTopic.delete(topic);
      return onClose(last);
    });
    listeners.add(listener);
    return listener;
  }

  has(topic: string): boolean {
    return this.#byTopic.has(topic);
  }

  wake(topic: string): void {
    for (const listener of this.#byTopic.get(topic) ?? []) listener.wake();
  }

  /** After an interruption nobody knows what was missed. */
  wakeAll(): void {
    for (const topic of this.#byTopic.keys()) this.wake(topic);
  }
}

class TopicListener implements WakeupListener {
  readonly #clock: Clock;
  readonly #onClose: () => Promise<void>;
  readonly #waiting = new Set<AbortController>();
  /** A wake that came while nobody waited. */
  #pending = false;
  #closed = false;

  constructor(clock: Clock, onClose: () => Promise<void>) {
    this.#clock = clock;
    this.#onClose = onClose;
  }

  wake(): void {
    if (this.#waiting.size === 0) this.#pending = true;
    for (const waiter of this.#waiting) waiter.abort(OVER);
  }

  async next(realMs: number, signal?: AbortSignal): Promise<void> {
    if (this.#closed || signal?.aborted === true) return;
    if (this.#pending) {
      this.#pending = false;
      return;
    }
    const waiter = new AbortController();
    const abort = (): void => waiter.abort(OVER);
    signal?.addEventListener('abort', abort, { once: true });
    this.#waiting.add(waiter);
    try {
      await this.#clock.sleepReal(realMs, waiter.signal);
    } finally {
      this.#waiting.delete(waiter);
      signal?.removeEventListener('abort', abort);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const waiter of this.#waiting) waiter.abort(OVER);
    await this.#onClose();
  }
}
