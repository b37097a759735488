/**
 * What the migrations did, second by second, as long as this process saw it: while an operation is active its moves are looked
 * at once a second, one read for all, and each move keeps a bounded number of points. Nothing of it is stored. On the way it
 * is seen which operations have changed.
 */
import {
  ENDED_MOVE_STATES,
  ENDED_OPERATION_STATES,
  type MoveRecord,
  type OperationRecord,
} from '../domain/operation.ts';
import type { Backend } from './backend.ts';
import type { ProgressPoint } from './schemas/migrations.ts';
import { type Followed, Waiters } from './streams/tail.ts';
import { Track } from './track.ts';

const LOOK_MS = 1_000;
/** A move that waits for its turn changes seldom: where many do, each is looked at every so many looks. */
const QUEUED_LOOKS = 5;
const MOST_TRACKS = 2_000;
/** Of one move: half an hour at one a second; then older points are thinned out. */
const MOST_POINTS = 1_800;
/** Of all moves together: that bounds the memory, at about 250 bytes each and 40 KiB for the latest of each move. */
const ALL_POINTS = 120_000;
const FEWEST_POINTS = 60;
/** An ended move's points are kept this long (real ms). */
const KEEP_ENDED_MS = 15 * 60_000;
const READ_AT_ONCE = 100;

export class Recorder {
  readonly #backend: Backend;
  readonly #report: (error: unknown) => void;
  readonly #stop = new AbortController();
  readonly #tracks = new Map<string, Track>();
  readonly #queued = new Map<string, number>();
  /** What each active operation looked like. */
  #seen = new Map<string, string>();
  #listeners = new Set<(operations: readonly string[]) => void>();
  #running: Promise<void> = Promise.resolve();
  #looks = 0;

  constructor(backend: Backend, report: (error: unknown) => void) {
    this.#backend = backend;
    this.#report = report;
  }

  start(): void {
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    for (const track of this.#tracks.values()) track.end();
    await this.#running;
  }

  /** Called about once a second with the operations that have changed, when there are any. */
  onChanged(listener: (operations: readonly string[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What was recorded of a move and what will be. Of one that nobody followed: what its record says. */
  trackOf(move: MoveRecord): Followed<number> {
    const known = this.#tracks.get(move.id);
    if (known !== undefined) {
      if (ENDED_MOVE_STATES.has(move.state) && known.endedAtMs === null) {
        known.add(pointOf(move, move.endedAtMs ?? move.queuedAtMs), MOST_POINTS);
        known.end();
      }
      return known;
    }
    const track = new Track();
    track.add(pointOf(move, move.endedAtMs ?? move.startedAtMs ?? move.queuedAtMs), MOST_POINTS);
    if (ENDED_MOVE_STATES.has(move.state) || this.#tracks.size >= MOST_TRACKS) track.end();
    else this.#tracks.set(move.id, track);
    return track;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const pause = new Waiters();
    while (!signal.aborted) {
      try {
        await this.look();
      } catch (error) {
        this.#report(error);
      }
      await pause.wait(signal, LOOK_MS);
    }
  }

  /** One look at everything that is active. */
  async look(): Promise<void> {
    this.#looks += 1;
    const { records } = this.#backend.stores;
    const open = [...this.#tracks].filter(([, track]) => track.endedAtMs === null).map(([id]) => id);
    const active = await records.activeOperations();
    const ids = new Set(active);
    const gone = [...this.#seen.keys()].filter((id) => !ids.has(id));
    const changed = new Set(gone);
    if (active.length === 0 && gone.length === 0 && open.length === 0) {
      this.#forgetOld();
      return;
    }
    const found = (await Promise.all(active.map((id) => records.operation(id)))).filter((record) => record !== null);
    const seen = new Map<string, string>();
    for (const record of found) {
      const text = JSON.stringify(record);
      seen.set(record.id, text);
      if (this.#seen.get(record.id) !== text) changed.add(record.id);
    }
    const nowMs = await this.#backend.producer.now();
    const wanted = this.#wanted(found, open);
    const was = new Set(open);
    for (let at = 0; at < wanted.length; at += READ_AT_ONCE) {
      const asked = wanted.slice(at, at + READ_AT_ONCE);
      const moves = await records.moves(asked);
      for (const [index, id] of asked.entries()) {
        const move = moves[index] ?? null;
        if (move !== null && this.#note(move, nowMs)) changed.add(move.operationId);
        // Nothing more comes of a move that has no record any more, or whose operation had ended before it was read.
        if (was.has(id) && (move === null || !ids.has(move.operationId))) this.#tracks.get(id)?.end();
      }
    }
    // Last: what failed on the way is looked at again, and told then.
    this.#seen = seen;
    this.#forgetOld();
    if (changed.size > 0) for (const listener of this.#listeners) listener([...changed]);
  }

  /** Moves to look at: those that may be under way, and in turn those that wait. Ended operations' moves once more. */
  #wanted(found: readonly OperationRecord[], open: readonly string[]): string[] {
    const due = (id: string): boolean => {
      const since = this.#queued.get(id);
      return since === undefined || (this.#looks - since) % QUEUED_LOOKS === 0;
    };
    const current = found.flatMap((record) =>
      ENDED_OPERATION_STATES.has(record.state)
        ? []
        : record.tasks.flatMap((task) => (ENDED_MOVE_STATES.has(task.state) ? [] : (task.moveIds.at(-1) ?? []))),
    );
    const waiting = new Set(current);
    for (const id of this.#queued.keys()) if (!waiting.has(id)) this.#queued.delete(id);
    // A first pass is most of a migration's course: where one read gets them all, none is left for later.
    const few = current.length <= READ_AT_ONCE;
    return [...new Set([...open, ...(few ? current : current.filter(due))])];
  }

  /** True: something is new. */
  #note(move: MoveRecord, nowMs: number): boolean {
    const { id } = move;
    if (move.state === 'queued' && !this.#tracks.has(id)) {
      if (!this.#queued.has(id)) this.#queued.set(id, this.#looks);
      return false;
    }
    this.#queued.delete(id);
    const ended = ENDED_MOVE_STATES.has(move.state);
    let track = this.#tracks.get(id);
    if (track === undefined) {
      if (ended || this.#tracks.size >= MOST_TRACKS) return false;
      track = new Track();
      this.#tracks.set(id, track);
    }
    if (track.endedAtMs !== null) return false;
    const most = Math.min(MOST_POINTS, Math.max(FEWEST_POINTS, Math.floor(ALL_POINTS / this.#tracks.size)));
    const isNew = track.add(pointOf(move, move.endedAtMs ?? nowMs), most);
    if (ended) track.end();
    return isNew;
  }

  #forgetOld(): void {
    const now = performance.now();
    let points = [...this.#tracks.values()].reduce((sum, { size }) => sum + size, 0);
    for (const [id, { endedAtMs, size }] of this.#tracks) {
      if (endedAtMs === null) continue;
      // Room for those that run comes before the past of those that do not.
      const crowded = this.#tracks.size > MOST_TRACKS / 2 || points > ALL_POINTS;
      if (!crowded && now - endedAtMs <= KEEP_ENDED_MS) continue;
      this.#tracks.delete(id);
      points -= size;
    }
  }
}

function pointOf({ state, progress }: MoveRecord, atMs: number): ProgressPoint {
  return { atMs, state, progress };
}
