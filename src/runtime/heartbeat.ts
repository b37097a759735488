/** One process's sign of life: what it serves, renewed until it closes. Refuses to work beside another fleet file. */

import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { HostevacError } from '../domain/errors.ts';
import { HEARTBEAT_EXPIRES_MS, type WorkerPresence } from '../store/presence.ts';
import { packageVersion } from './package-version.ts';
import type { PublishedFleet, Stores } from './stores.ts';

const BEAT_MS = HEARTBEAT_EXPIRES_MS / 4;

export class Heartbeat {
  readonly #stores: Stores;
  readonly #log: Logger;
  readonly #fleet: PublishedFleet;
  readonly #stop = new AbortController();
  #presence: WorkerPresence;
  #beating: Promise<void> | null = null;

  constructor(stores: Stores, log: Logger, self: { readonly id: string; readonly fleet: PublishedFleet }) {
    this.#fleet = self.fleet;
    this.#stores = stores;
    this.#log = log;
    this.#presence = { id: self.id, pid: process.pid, hosts: [], operations: false, fleetHash: self.fleet.hash };
  }

  /** Adds to what this process serves. Throws `fleetMismatch` when live workers have another fleet file. */
  async announce(change: { readonly hosts?: readonly string[]; readonly operations?: boolean }): Promise<void> {
    const others = (await this.#stores.presence.alive()).filter((worker) => worker.id !== this.#presence.id);
    const other = others.find((worker) => worker.fleetHash !== this.#presence.fleetHash);
    if (other !== undefined) {
      throw new HostevacError(
        'fleetMismatch',
        `A running worker (pid ${other.pid}) has another fleet file (${other.fleetHash}) than this process (${this.#presence.fleetHash}). Stop it first, or start this one with the same file`,
      );
    }
    this.#presence = {
      ...this.#presence,
      hosts: [...new Set([...this.#presence.hosts, ...(change.hosts ?? [])])],
      operations: this.#presence.operations || (change.operations ?? false),
    };
    await this.#stores.presence.beat(this.#now());
    await this.#publishFleet();
    this.#beating ??= this.#beat();
  }

  #now(): WorkerPresence {
    return {
      ...this.#presence,
      about: { version: packageVersion(), hostname: hostname(), beatAtMs: Date.now() },
    };
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#beating;
    await this.#stores.presence.leave(this.#presence.id);
  }

  /** For producers that have no fleet file. */
  async #publishFleet(): Promise<void> {
    await this.#stores.publishedFleet.update((known) =>
      JSON.stringify(known) === JSON.stringify(this.#fleet)
        ? { unchanged: true, result: undefined }
        : { value: this.#fleet, result: undefined },
    );
  }

  async #beat(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      await this.#stores.clock.sleepReal(BEAT_MS, signal);
      if (signal.aborted) return;
      await this.#stores.presence.beat(this.#now()).catch((error: unknown) => {
        this.#log.warn({ err: error }, 'heartbeat not written; other processes will think that this one is gone');
      });
    }
  }
}
