/**
 * One reader of a stream of events for all who follow it: what it has read last is kept in a ring that every follower reads at
 * its own pace, so a slow one holds a position and nothing else. Who asks for what is older than the ring reads it from the
 * store. Ids are those of Redis streams.
 */

import { HostevacError } from '../../domain/errors.ts';
import { compareIds } from '../../store/event-log.ts';

/** One step of a follower: what to write, where it then is, and whether nothing comes after it. */
export interface Step<Position> {
  readonly frames: readonly string[];
  readonly position: Position;
  readonly ended: boolean;
}

/** What is followed. `next` answers as soon as there is something behind `position`, or the signal aborts. */
export interface Followed<Position> {
  next(position: Position, signal: AbortSignal): Promise<Step<Position>>;
}

export interface TailEntry {
  readonly id: string;
  readonly frame: string;
}

export interface TailSource {
  /** What is behind `after`, from now to the end; ends when there is no more to come, or the signal aborts. */
  follow(after: string, signal: AbortSignal): AsyncIterable<TailEntry>;
  /** What is behind `after` now, at most `limit`. */
  page(after: string, limit: number): Promise<readonly TailEntry[]>;
}

const RING = 500;
/** At most so many events are given at once: that bounds what one follower has in flight. */
const STEP = 100;
/** A source that failed (Redis was away) is asked again after this long (real ms). */
const AGAIN_MS = 500;
/** Events come in bursts, and each that is told costs a write for each follower: what comes within this (real ms) is told together. */
const GATHER_MS = 25;

export class Tail implements Followed<string> {
  readonly #source: TailSource;
  readonly #stop = new AbortController();
  readonly #waiters = new Waiters();
  /** Everything that was read behind `floor` is in the ring. */
  #floor: string;
  #ring: TailEntry[] = [];
  #ended = false;
  /** Most followers stand at one place: what comes behind it is found once. Forgotten with every change. */
  #known: { readonly position: string; readonly step: Step<string> } | null = null;

  readonly #report: (error: unknown) => void;

  /** `from`: followed from behind this id on. `report`: told when reading fails; it is tried again. */
  constructor(source: TailSource, from: string, report: (error: unknown) => void = () => undefined) {
    this.#source = source;
    this.#report = report;
    this.#floor = from;
    void this.#run(from);
  }

  async next(position: string, signal: AbortSignal): Promise<Step<string>> {
    for (;;) {
      if (signal.aborted) return { frames: [], position, ended: false };
      if (this.#known?.position === position) return this.#known.step;
      const older = compareIds(position, this.#floor) < 0 ? await this.#source.page(position, STEP) : null;
      const entries = older ?? behind(this.#ring, position);
      const step = entries.slice(0, STEP);
      const last = step.at(-1);
      if (last !== undefined) {
        const ended = this.#ended && compareIds(last.id, this.#ring.at(-1)?.id ?? this.#floor) >= 0;
        const told = { frames: step.map(({ frame }) => frame), position: last.id, ended };
        if (entries !== older) this.#known = { position, step: told };
        return told;
      }
      if (compareIds(position, this.#floor) < 0) {
        // What was there is not kept any more.
        position = this.#floor;
        continue;
      }
      if (this.#ended) return { frames: [], position, ended: true };
      await this.#waiters.wait(signal);
    }
  }

  close(): void {
    this.#stop.abort();
    this.#waiters.wake();
  }

  async #run(from: string): Promise<void> {
    const { signal } = this.#stop;
    let after = from;
    let told: string | null = null;
    let gathered: NodeJS.Timeout | undefined;
    while (!signal.aborted && !this.#ended) {
      try {
        for await (const entry of this.#source.follow(after, signal)) {
          after = entry.id;
          this.#ring.push(entry);
          if (this.#ring.length > RING * 2) {
            const kept = this.#ring.slice(-RING);
            this.#floor = this.#ring.at(-RING - 1)?.id ?? this.#floor;
            this.#ring = kept;
          }
          this.#known = null;
          gathered ??= setTimeout(() => {
            gathered = undefined;
            this.#waiters.wake();
          }, GATHER_MS);
        }
        this.#ended = !signal.aborted;
        this.#known = null;
      } catch (error) {
        if (signal.aborted) break;
        // Once for each time that it goes wrong: while Redis is away it does so again and again.
        if (told !== after) this.#report(error);
        told = after;
        this.#known = null;
        // Its record has expired: nothing comes any more.
        if (error instanceof HostevacError && error.code === 'unknownOperation') this.#ended = true;
        else await this.#waiters.wait(signal, AGAIN_MS);
      }
    }
    clearTimeout(gathered);
    this.#waiters.wake();
  }
}

function behind(ring: readonly TailEntry[], position: string): readonly TailEntry[] {
  let [low, high] = [0, ring.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareIds(ring[middle]?.id ?? '0', position) > 0) high = middle;
    else low = middle + 1;
  }
  return ring.slice(low, low + STEP);
}

/** Those who wait for the next change. */
export class Waiters {
  readonly #waiting = new Set<() => void>();

  /** Resolves at the next `wake`, at the signal, or after `limitMs`. */
  wait(signal: AbortSignal, limitMs?: number): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) {
        resolve();
        return;
      }
      const timer = limitMs === undefined ? undefined : setTimeout(() => done(), limitMs);
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#waiting.add(done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}
