/** The course of one migration: a bounded number of points, the latest as they are sent, those before packed. */
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { ProgressPoint } from './schemas/migrations.ts';
import { frameOf } from './streams/sse.ts';
import { type Followed, type Step, Waiters } from './streams/tail.ts';

/** Points that are packed together: some 25 KiB, of which packing leaves about a quarter, for floats have many digits. */
const BLOCK = 25;

/** Its number, and as it is sent: those that are not packed are the same for all who follow. */
type Point = readonly [seq: number, frame: string];

interface Block {
  readonly last: number;
  readonly count: number;
  /** Every 2 ** thinned-th point is there. */
  readonly thinned: number;
  readonly bytes: Uint8Array;
}

/** One move's points. Followed by their number. */
export class Track implements Followed<number> {
  readonly #waiters = new Waiters();
  #packed: Block[] = [];
  #latest: Point[] = [];
  #seq = 0;
  endedAtMs: number | null = null;
  #last = '';

  /** Points. */
  get size(): number {
    return this.#packed.reduce((sum, { count }) => sum + count, this.#latest.length);
  }

  /** What their text takes. */
  get bytes(): number {
    const latest = this.#latest.reduce((sum, [, frame]) => sum + frame.length, 0);
    return this.#packed.reduce((sum, { bytes }) => sum + bytes.byteLength, latest);
  }

  /** False: nothing is new. */
  add(point: ProgressPoint, most: number): boolean {
    const what = JSON.stringify([point.state, point.progress]);
    if (what === this.#last) return false;
    this.#last = what;
    this.#seq += 1;
    this.#latest.push([this.#seq, frameOf({ event: 'progress', data: point })]);
    if (this.size > most) this.#thin(most);
    if (this.#latest.length >= 2 * BLOCK) this.#packed.push(packed(this.#latest.splice(0, BLOCK), 0));
    this.#waiters.wake();
    return true;
  }

  end(): void {
    this.endedAtMs ??= performance.now();
    this.#waiters.wake();
  }

  async next(position: number, signal: AbortSignal): Promise<Step<number>> {
    for (;;) {
      const block = this.#packed.find(({ last }) => last > position);
      const points = block === undefined ? this.#latest : unpacked(block);
      const step = points.filter(([seq]) => seq > position);
      if (step.length > 0) {
        const at = step.at(-1)?.[0] ?? position;
        const frames = step.map(([, frame]) => frame);
        return { frames, position: at, ended: this.endedAtMs !== null && at === this.#seq };
      }
      if (this.endedAtMs !== null) return { frames: [], position, ended: true };
      if (signal.aborted) return { frames: [], position, ended: false };
      await this.#waiters.wait(signal);
    }
  }

  /**
   * Of two neighbours every second point goes, and one block is left of them: the least thinned ones, of those the oldest, so
   * that the whole course stays visible, its past more coarsely, and no point that comes costs more than that. The last
   * quarter stays as it is.
   */
  #thin(most: number): void {
    const recent = this.#seqsBack(Math.floor(most / 4));
    const old = this.#packed.filter(({ last }) => last < recent);
    if (old.length < 2) {
      this.#thinAll(most);
      return;
    }
    const least = (index: number): number => {
      const [one, other] = [old[index], old[index + 1]];
      return one === undefined || other === undefined ? Number.POSITIVE_INFINITY : Math.max(one.thinned, other.thinned);
    };
    let place = 0;
    for (let index = 1; index + 1 < old.length; index += 1) if (least(index) < least(place)) place = index;
    const points = old.slice(place, place + 2).flatMap(unpacked);
    this.#packed.splice(place, 2, packed(everySecond(points), least(place) + 1));
  }

  /** Where there are few: all of them but the recent ones, at once. */
  #thinAll(most: number): void {
    const all = [...this.#packed.flatMap(unpacked), ...this.#latest];
    const recent = Math.floor(most / 4);
    const kept = [...everySecond(all.slice(0, -recent)), ...all.slice(-recent)];
    this.#packed = [];
    while (kept.length >= 2 * BLOCK) this.#packed.push(packed(kept.splice(0, BLOCK), 1));
    this.#latest = kept;
  }

  /** The number of the point that has so many behind it. */
  #seqsBack(points: number): number {
    let behind = this.#latest.length;
    for (const { last, count } of this.#packed.toReversed()) {
      if (behind >= points) return last + 1;
      behind += count;
    }
    return 0;
  }
}

function everySecond(points: readonly Point[]): Point[] {
  return points.filter((_, index) => index % 2 === 0);
}

function packed(points: readonly Point[], thinned: number): Block {
  // A copy: what is given is a small part of a large buffer, which would be kept with it.
  const bytes = new Uint8Array(deflateRawSync(JSON.stringify(points)));
  return { last: points.at(-1)?.[0] ?? 0, count: points.length, thinned, bytes };
}

function unpacked({ bytes }: Block): Point[] {
  return JSON.parse(inflateRawSync(bytes).toString('utf8'));
}
