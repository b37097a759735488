/** The course of one migration: a bounded number of points, the latest as they are sent, those before packed. */
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { ProgressPoint } from './schemas/migrations.ts';
import { frameOf } from './streams/sse.ts';
import { type Followed, type Step, Waiters } from './streams/tail.ts';

/** Points that are packed together, and given together: some 25 KiB, of which packing leaves about a quarter: floats have many digits. */
const BLOCK = 25;

/** Its number, and as it is sent: made once, however many follow. */
type Point = readonly [seq: number, frame: string];

interface Block {
  readonly last: number;
  readonly count: number;
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

  /** What they take (bytes). */
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
    if (this.#latest.length >= 2 * BLOCK) this.#packed.push(packed(this.#latest.splice(0, BLOCK)));
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

  /** Every second one of all but the latest goes: the whole course stays visible, its past more coarsely. */
  #thin(most: number): void {
    const all = [...this.#packed.flatMap(unpacked), ...this.#latest];
    const recent = Math.floor(most / 4);
    const kept = [...all.slice(0, -recent).filter((_, index) => index % 2 === 0), ...all.slice(-recent)];
    this.#packed = [];
    while (kept.length >= 2 * BLOCK) this.#packed.push(packed(kept.splice(0, BLOCK)));
    this.#latest = kept;
  }
}

function packed(points: readonly Point[]): Block {
  // A copy: what is given is a small part of a large buffer, which would be kept with it.
  const bytes = new Uint8Array(deflateRawSync(JSON.stringify(points)));
  return { last: points.at(-1)?.[0] ?? 0, count: points.length, bytes };
}

function unpacked({ bytes }: Block): Point[] {
  return JSON.parse(inflateRawSync(bytes).toString('utf8'));
}
