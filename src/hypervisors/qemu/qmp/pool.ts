/**
 * One QMP connection per socket in this process, shared by whoever needs it now: QEMU serves one client at a time, and
 * other processes wait for their greeting while we hold it, so an idle connection is closed soon.
 *
 * Nothing is retried here: a command that may have been carried out is for its sender to look into.
 */
import { HostevacError } from '../../../domain/errors.ts';
import { connectQmp } from './client.ts';
import type { Qmp, QmpConnect } from './qmp.ts';

/** Long enough to span the commands of one look at a VM, short against the 3 s that others wait for a greeting. */
const IDLE_MS = 100;

interface Shared {
  readonly connection: Promise<Qmp>;
  users: number;
  stopIdling: () => void;
}

export interface QmpPoolOptions {
  readonly connect?: QmpConnect;
  readonly idleMs?: number;
}

export class QmpPool {
  readonly #connect: QmpConnect;
  readonly #idleMs: number;
  /** Connections that are being made or open. A closed one is forgotten at once, whoever still has it. */
  readonly #shared = new Map<string, Shared>();
  #closed = false;

  constructor({ connect = connectQmp, idleMs = IDLE_MS }: QmpPoolOptions = {}) {
    this.#connect = connect;
    this.#idleMs = idleMs;
  }

  /** For short work. Rejects as connecting or the work does. */
  async use<T>(path: string, work: (qmp: Qmp) => Promise<T>): Promise<T> {
    const { qmp, release } = await this.hold(path);
    try {
      return await work(qmp);
    } finally {
      release();
    }
  }

  /**
   * Keeps the connection open until `release` (which may be called twice): for events. It may close all the same
   * (`qmp.onClose`); then hold again.
   */
  async hold(path: string): Promise<{ readonly qmp: Qmp; release(): void }> {
    if (this.#closed) throw closedError(path);
    const shared = this.#shared.get(path) ?? this.#open(path);
    shared.stopIdling();
    shared.users += 1;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      this.#leave(path, shared);
    };
    try {
      return { qmp: await shared.connection, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Closes every connection, also those still being made; commands under way fail with `hostUnreachable`. */
  close(): void {
    this.#closed = true;
    for (const { connection, stopIdling } of this.#shared.values()) {
      stopIdling();
      closeWhenMade(connection);
    }
    this.#shared.clear();
  }

  #open(path: string): Shared {
    const shared: Shared = { connection: this.#make(path), users: 0, stopIdling: () => undefined };
    this.#shared.set(path, shared);
    const forget = (): void => {
      shared.stopIdling();
      if (this.#shared.get(path) === shared) this.#shared.delete(path);
    };
    // A failed attempt is forgotten as well: the next user tries again. Those who wait for it get its error themselves.
    shared.connection.then((qmp) => qmp.onClose(forget), forget);
    return shared;
  }

  async #make(path: string): Promise<Qmp> {
    const qmp = await this.#connect(path);
    if (!this.#closed) return qmp;
    qmp.close();
    throw closedError(path);
  }

  #leave(path: string, shared: Shared): void {
    shared.users -= 1;
    if (shared.users > 0 || this.#shared.get(path) !== shared) return;
    const timer = setTimeout(() => closeWhenMade(shared.connection), this.#idleMs);
    shared.stopIdling = () => clearTimeout(timer);
  }
}

function closeWhenMade(connection: Promise<Qmp>): void {
  connection.then(
    (qmp) => qmp.close(),
    // A connection that was never made is closed; who waits for it hears why.
    () => undefined,
  );
}

function closedError(path: string): HostevacError {
  return new HostevacError('hostUnreachable', `${path}: this process has closed its QMP connections`);
}
