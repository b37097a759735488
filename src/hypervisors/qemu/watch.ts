/**
 * Held connections for the events of outgoing migrations, and who waits for one. A VM's main monitor is held while this
 * process drives its migration; when nobody has asked for a while it is given back. Whoever no longer follows a
 * migration that may wait for a last word says so: `unattended`.
 */
import type { Logger } from 'pino';
import { z } from 'zod';
import { reasonOf } from '../../domain/errors.ts';
import type { Monitors } from './monitors.ts';
import type { VmDir } from './vm-dir.ts';

/** Source: qapi/migration.json and qapi/run-state.json. */
const NEWS: ReadonlySet<string> = new Set(['MIGRATION', 'MIGRATION_PASS', 'STOP', 'RESUME']);
/** Whoever drives looks every second or so; a process that stopped driving must not keep others from the socket. */
const UNUSED_MS = 2_500;
/** The guest stands still until the last word; a workflow that means to give it takes up to 800 ms for its last look. */
export const LAST_WORD_MS = 900;

const waitsSchema = z.looseObject({ status: z.literal('pre-switchover') });

interface Watch {
  /** Something was said since the last sample. */
  news: boolean;
  waiting: Set<() => void>;
  release: () => void;
  unused: NodeJS.Timeout;
  /** Runs while the guest waits for the last word. */
  lastWord: NodeJS.Timeout | undefined;
  listens: boolean;
  /** Resolves once it listens, or cannot. */
  begun: Promise<void>;
}

export class Watches {
  readonly #monitors: Monitors;
  readonly #log: Logger;
  readonly #unattended: (dir: VmDir) => void;
  readonly #watches = new Map<string, Watch>();

  /** `unattended`: a watch has ended, or the last word has not been given in time. */
  constructor(monitors: Monitors, log: Logger, unattended: (dir: VmDir) => void) {
    this.#monitors = monitors;
    this.#log = log;
    this.#unattended = unattended;
  }

  /**
   * Begins to listen, if this process does not already. False: it cannot; a socket that somebody else holds is not waited
   * for, then polling has to do.
   */
  async listen(dir: VmDir): Promise<boolean> {
    const known = this.#watches.get(dir.path);
    if (known !== undefined) known.unused.refresh();
    await (known ?? this.#begin(dir)).begun;
    return this.listens(dir);
  }

  listens(dir: VmDir): boolean {
    return this.#watches.get(dir.path)?.listens === true;
  }

  #begin(dir: VmDir): Watch {
    const watch: Watch = {
      news: false,
      waiting: new Set(),
      release: () => undefined,
      unused: setTimeout(() => this.end(dir), UNUSED_MS),
      lastWord: undefined,
      listens: false,
      begun: Promise.resolve(),
    };
    watch.unused.unref();
    this.#watches.set(dir.path, watch);
    watch.begun = this.#hold(dir, watch);
    return watch;
  }

  async #hold(dir: VmDir, watch: Watch): Promise<void> {
    try {
      const { qmp, release } = await this.#monitors.hold(dir);
      const deaf = qmp.onEvent(({ name, data }) => {
        if (!NEWS.has(name)) return;
        if (name === 'MIGRATION' && waitsSchema.safeParse(data).success) this.waits(dir);
        watch.news = true;
        wake(watch);
      });
      watch.release = () => {
        deaf();
        release();
      };
      if (this.#watches.get(dir.path) !== watch) return watch.release();
      watch.listens = true;
      // What happened while the connection broke is not known: that is news.
      qmp.onClose(() => {
        if (this.#watches.get(dir.path) === watch) this.end(dir);
      });
    } catch (error) {
      this.#log.debug({ socket: dir.monitor, why: reasonOf(error).message }, 'no events: the migration is polled');
      if (this.#watches.get(dir.path) === watch) this.end(dir);
    }
  }

  /** What is said from now on is news to the sample that is about to be taken. */
  sampled(dir: VmDir): void {
    const watch = this.#watches.get(dir.path);
    if (watch === undefined) return;
    watch.news = false;
    watch.unused.refresh();
  }

  /** The guest waits for the last word; from now on it has to come in time. */
  waits(dir: VmDir): void {
    const watch = this.#watches.get(dir.path);
    if (watch === undefined || watch.lastWord !== undefined) return;
    watch.lastWord = setTimeout(() => {
      watch.lastWord = undefined;
      this.#unattended(dir);
    }, LAST_WORD_MS);
    watch.lastWord.unref();
  }

  /** The last word has been sent. */
  spoken(dir: VmDir): void {
    const watch = this.#watches.get(dir.path);
    if (watch === undefined) return;
    clearTimeout(watch.lastWord);
    watch.lastWord = undefined;
  }

  /** Resolves when there is news, when a watch that had begun ends, or on abort. */
  change(dir: VmDir, signal: AbortSignal): Promise<void> {
    return new Promise<void>((resolve) => {
      let watch: Watch | undefined;
      const done = (): void => {
        watch?.waiting.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      if (signal.aborted) return done();
      signal.addEventListener('abort', done, { once: true });
      this.listen(dir).then(() => {
        watch = this.#watches.get(dir.path);
        if (watch?.news === true) done();
        else if (!signal.aborted) watch?.waiting.add(done);
      }, done);
    });
  }

  end(dir: VmDir): void {
    const watch = this.#watches.get(dir.path);
    if (watch === undefined) return;
    this.#watches.delete(dir.path);
    finish(watch);
    this.#unattended(dir);
  }

  close(): void {
    for (const watch of this.#watches.values()) finish(watch);
    this.#watches.clear();
  }
}

function finish(watch: Watch): void {
  clearTimeout(watch.unused);
  clearTimeout(watch.lastWord);
  watch.release();
  wake(watch);
}

function wake(watch: Watch): void {
  for (const done of watch.waiting) done();
}
