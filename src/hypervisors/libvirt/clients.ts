/**
 * The `virsh migrate` processes of this worker. libvirtd carries a migration on without its client; what that says at its end is
 * why it failed. One that has not asked yet must not outlive its attempt, and is ended with it.
 */
import { spawn } from 'node:child_process';
import { keyOf, type LibvirtHost } from './host.ts';
import { baseArguments, VIRSH, virshEnv, wordsOf } from './virsh.ts';

export interface Client {
  readonly uuid: string;
  readonly migrationId: string;
  /** null: it waits for the end of its migration. `lost`: it was ended, or could not be run, and knows nothing of that end. */
  outcome: { readonly how: 'completed' | 'failed' | 'lost'; readonly words: string } | null;
  /** Resolves with its outcome. */
  readonly ended: Promise<void>;
  /** We have asked for the end of its migration. */
  isCancelled: boolean;
  /** Ends the client; a migration that has begun goes on. */
  readonly end: () => void;
}

const WORDS_CHARS = 4_000;

export class Clients {
  /** The last one of each VM, by host and uuid. */
  readonly #clients = new Map<string, Client>();

  /** In a session of its own: virsh ends the migration when Ctrl-C reaches it. */
  start(host: LibvirtHost, client: Pick<Client, 'uuid' | 'migrationId'>, args: readonly string[]): Client {
    const child = spawn(VIRSH, [...baseArguments(host.uri), ...args], {
      env: virshEnv(),
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let err = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      err = (err + text).slice(-WORDS_CHARS);
    });
    let end: () => void = () => undefined;
    const started: Client = {
      ...client,
      outcome: null,
      ended: new Promise<void>((resolve) => {
        end = resolve;
      }),
      isCancelled: false,
      end: () => child.kill('SIGKILL'),
    };
    const over = (how: 'completed' | 'failed' | 'lost', words: string): void => {
      started.outcome ??= { how, words };
      end();
    };
    child.once('error', (error) => over('lost', error.message));
    child.once('close', (code) => {
      if (code === 0) over('completed', '');
      else if (code === null) over('lost', 'virsh was ended by a signal');
      else over('failed', wordsOf(err));
    });
    // A worker that ends leaves it to libvirtd.
    child.unref();
    if ('unref' in child.stderr && typeof child.stderr.unref === 'function') child.stderr.unref();
    this.#clients.set(keyOf(host, client.uuid), started);
    return started;
  }

  of(host: LibvirtHost, uuid: string): Client | undefined {
    return this.#clients.get(keyOf(host, uuid));
  }
}
