/**
 * What libvirtd says by itself of VMs that are being migrated: one `virsh event` for each while somebody waits for news of
 * it, ended when nobody has for a while. It also carries the figures of a migration that has ended, which libvirtd keeps
 * nowhere when the domain is gone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { type JobStats, jobStats } from './answers.ts';
import { keyOf, type LibvirtHost } from './host.ts';
import { baseArguments, uuidWord, VIRSH, virshEnv } from './virsh.ts';

/** Whoever drives looks every second or so. */
const UNUSED_MS = 5_000;
const KEPT_CHARS = 8_000;
const COMPLETED = /event 'job-completed' for domain /;

interface Watch {
  readonly child: ChildProcess;
  /** Something was said since the last sample. */
  news: boolean;
  readonly waiting: Set<() => void>;
  readonly unused: NodeJS.Timeout;
  text: string;
}

export class Events {
  readonly #watches = new Map<string, Watch>();
  /** By host and uuid, of the last job that has ended. */
  readonly #completed = new Map<string, JobStats>();

  /** Begins to listen, if it does not already. */
  listen(host: LibvirtHost, uuid: string): void {
    const key = keyOf(host, uuid);
    const known = this.#watches.get(key);
    if (known !== undefined) {
      known.unused.refresh();
      return;
    }
    const args = ['event', '--domain', uuidWord(uuid), '--all', '--loop'];
    // It goes with this process, however that ends.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', VIRSH, ...baseArguments(host.uri), ...args], {
      env: virshEnv(),
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const unused = setTimeout(() => this.#end(key), UNUSED_MS);
    unused.unref();
    const watch: Watch = { child, news: false, waiting: new Set(), unused, text: '' };
    this.#watches.set(key, watch);
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      watch.text = (watch.text + text).slice(-KEPT_CHARS);
      const job = completedIn(watch.text);
      if (job !== null) this.#completed.set(key, job);
      wake(watch);
    });
    // No events from here on: the migration is polled. The watch stays until nobody uses it, so that no other takes its place.
    const over = (): void => wake(watch);
    child.once('error', over).once('close', over);
    child.unref();
  }

  /** What is said from now on is news to the sample that is about to be taken. */
  sampled(host: LibvirtHost, uuid: string): void {
    const watch = this.#watches.get(keyOf(host, uuid));
    if (watch === undefined) return;
    watch.news = false;
    watch.unused.refresh();
  }

  /** Resolves when there is news, or on abort. */
  change(host: LibvirtHost, uuid: string, signal: AbortSignal): Promise<void> {
    this.listen(host, uuid);
    const watch = this.#watches.get(keyOf(host, uuid));
    return new Promise((resolve) => {
      const done = (): void => {
        watch?.waiting.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      if (signal.aborted || watch?.news === true) return done();
      signal.addEventListener('abort', done, { once: true });
      watch?.waiting.add(done);
    });
  }

  /** Figures of the migration that has ended, if its end was heard. */
  completed(host: LibvirtHost, uuid: string): JobStats | null {
    return this.#completed.get(keyOf(host, uuid)) ?? null;
  }

  /** A new migration begins: what was heard of an earlier one is not its. */
  begin(host: LibvirtHost, uuid: string): void {
    const key = keyOf(host, uuid);
    this.#completed.delete(key);
    const watch = this.#watches.get(key);
    if (watch !== undefined) watch.text = '';
    this.listen(host, uuid);
  }

  close(): void {
    for (const key of [...this.#watches.keys()]) this.#end(key);
  }

  #end(key: string): void {
    const watch = this.#watches.get(key);
    if (watch === undefined) return;
    this.#watches.delete(key);
    clearTimeout(watch.unused);
    watch.child.kill('SIGTERM');
    wake(watch);
  }
}

/** The last one that has been said whole: an empty line ends it. */
function completedIn(text: string): JobStats | null {
  const at = [...text.matchAll(new RegExp(COMPLETED, 'g'))].at(-1)?.index;
  const block = at === undefined ? undefined : /^[^\n]*\n([\s\S]*?)\n\n/.exec(text.slice(at))?.[1];
  return block === undefined ? null : jobStats(block);
}

function wake(watch: Watch): void {
  watch.news = true;
  for (const done of watch.waiting) done();
}
