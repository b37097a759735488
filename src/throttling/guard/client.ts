/**
 * What a worker has of the guard: requests over one connection, which starts a guard when none runs. Once this process
 * has throttled a guest or opened a gate it watches its guard: when that one dies or hangs (then it is ended), the next is
 * started at once, so that no quota stays. Closing it lifts what it has set. Where a service manager runs the guard, none is
 * started here: it is waited for.
 */
import { existsSync } from 'node:fs';
import type { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import { endProcess } from '../../runtime/end-process.ts';
import { isDeadHere, thisProcess } from '../../runtime/process-identity.ts';
import type { Fence } from '../../store/lease.ts';
import { ConnectionEnded, dial, type GuardConnection } from './connection.ts';
import { type GuardIdentity, isHung, readIdentity } from './identity.ts';
import { readJournal } from './journal.ts';
import { GUARD_ENTRY, type Launched, launchGuard } from './launch.ts';
import { type GuardPlaces, guardPlaces, makeGuardDir } from './places.ts';
import {
  doneSchema,
  type GuardStatus,
  type Look,
  lookSchema,
  PROTOCOL_VERSION,
  type Released,
  type RequestBody,
  releasedSchema,
  type SetRequest,
  statusSchema,
  welcomeSchema,
} from './protocol.ts';

/** A new guard first restores what an earlier one left, and an ending one may hold the lock for a moment. */
const START_MS = 10_000;
const LOOK_AGAIN_MS = 20;
/** Between two tries to start one while another holds the lock: each is a process. */
const LAUNCH_AGAIN_MS = 500;
const RETRY_MS = 500;

export interface GuardClientOptions {
  readonly stateDir: string;
  readonly log: (line: string) => void;
  /** The guard's program, where this code runs from source; default: the built one beside it. */
  readonly entry?: string;
}

type Gate = Extract<RequestBody, { type: 'gate' }>;
type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

export class GuardClient {
  readonly #options: GuardClientOptions;
  readonly #places: GuardPlaces;
  readonly #gates = new Map<string, Gate>();
  #connection: GuardConnection | null = null;
  #connecting: Promise<GuardConnection> | null = null;
  /** A guard that has not answered: to be ended before anything is asked again. */
  #hung: GuardConnection | null = null;
  #watching = false;
  #closed = false;

  constructor(options: GuardClientOptions) {
    this.#options = options;
    this.#places = guardPlaces(options.stateDir);
  }

  /** Throws `leaseLost` (by the fence, or by the guard), or `throttleUnavailable`. */
  async set(fence: Fence, request: Without<SetRequest, 'type' | 'token'>): Promise<void> {
    this.#watching = true;
    await this.#ask(() => ({ ...request, type: 'set', token: fenced(fence) }), doneSchema);
  }

  /** `process`: the VM's; with it the guard remembers the token. Errors as `set`. */
  async release(
    fence: Fence,
    request: Without<Extract<RequestBody, { type: 'release' }>, 'type' | 'token'>,
  ): Promise<void> {
    await this.#ask(() => ({ ...request, type: 'release', token: fenced(fence) }), doneSchema);
  }

  /** True: no guard runs, and none has left anything; so nothing is throttled. Starts none. */
  async isIdle(): Promise<boolean> {
    if (this.#connection?.alive === true || this.#leftBehind() || this.#connecting !== null) return false;
    const connection = await dial(this.#places, null);
    await connection?.close();
    return connection === null;
  }

  /** null: nothing is throttled, and nobody is there to ask. */
  async look(host: string, vm: string): Promise<Look | null> {
    if (await this.isIdle()) return null;
    return this.#ask(() => ({ type: 'look', host, vm }), lookSchema);
  }

  /** Throws `throttleUnavailable` when such threads cannot be throttled, with what to grant. */
  async probe(tids: readonly number[]): Promise<void> {
    await this.#ask(() => ({ type: 'probe', tids: [...tids] }), doneSchema);
  }

  /** Lifts the throttles of a host (null: of all), whoever set them. */
  releaseAll(host: string | null): Promise<Released> {
    return this.#ask(() => ({ type: 'releaseAll', host }), releasedSchema);
  }

  status(): Promise<GuardStatus> {
    return this.#ask(() => ({ type: 'status' }), statusSchema);
  }

  /** From now on, when this process stops or dies, the guard gives the migration's last word over `monitor`. */
  async gate(host: string, vm: string, monitor: string): Promise<void> {
    const gate: Gate = { type: 'gate', host, vm, monitor };
    this.#watching = true;
    await this.#ask(() => gate, doneSchema);
    this.#gates.set(JSON.stringify([host, vm]), gate);
  }

  /** The guard gives the last word from now on, though this process lives; until `gate` is called again. */
  async abandon(host: string, vm: string): Promise<void> {
    this.#gates.delete(JSON.stringify([host, vm]));
    await this.#ask(() => ({ type: 'abandon', host, vm }), doneSchema);
  }

  async ungate(host: string, vm: string): Promise<void> {
    this.#gates.delete(JSON.stringify([host, vm]));
    await this.#ask(() => ({ type: 'ungate', host, vm }), doneSchema);
  }

  /** For every process start: where a guard has died and left something to restore, starts the next one. */
  async recover(): Promise<void> {
    if (this.#leftBehind()) await this.#connected();
  }

  /** What this process has set is restored by the guard. */
  async close(): Promise<void> {
    this.#closed = true;
    const connection = this.#connection ?? (await this.#connecting?.catch(() => null));
    await connection?.close();
  }

  /** `body` is made in the same tick as it is written. Asked a second time when the guard ended meanwhile. */
  async #ask<T>(body: () => RequestBody, answer: z.ZodType<T>): Promise<T> {
    for (let again = true; ; again = false) {
      const connection = await this.#connected();
      try {
        return await connection.ask(body(), answer);
      } catch (error) {
        if (!(error instanceof ConnectionEnded)) throw error;
        if (!again)
          throw unavailable(`the guard ended twice while it was asked something; see ${this.#places.log}`, error);
      }
    }
  }

  async #connected(): Promise<GuardConnection> {
    if (this.#connection?.alive === true) return this.#connection;
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = null;
    });
    return this.#connecting;
  }

  async #connect(): Promise<GuardConnection> {
    const { stateDir, entry } = this.#options;
    try {
      makeGuardDir(this.#places);
    } catch (error) {
      throw unavailable(`the guard's directory ${this.#places.dir} cannot be made: ${String(error)}`, error);
    }
    const untilMs = performance.now() + START_MS;
    let launched: Launched | null = null;
    let launchedMs = 0;
    let silent = { pid: 0, ms: 0 };
    for (;;) {
      if (this.#closed) throw unavailable('this client of the guard is closed');
      await this.#endHung();
      const guard = this.#guard();
      const connection = await dial(this.#places, guard).catch((error) => {
        throw unavailable(`the guard's socket in ${this.#places.dir} cannot be used: ${String(error)}`, error);
      });
      if (connection !== null && (await this.#greet(connection))) return connection;
      // Stopped before it listened. One that restores computes or writes.
      silent =
        guard?.pid === silent.pid ? { ...silent, ms: silent.ms + LOOK_AGAIN_MS } : { pid: guard?.pid ?? 0, ms: 0 };
      if (connection === null && guard !== null && !isDeadHere(guard) && isHung(guard, silent.ms))
        await this.#end(guard);
      if (typeof launched?.outcome === 'object') {
        throw unavailable(`the guard cannot be started: ${launched.outcome.failure}`);
      }
      const locked = launched?.outcome === 'locked' && performance.now() - launchedMs >= LAUNCH_AGAIN_MS;
      const served = existsSync(this.#places.service);
      if (!served && (launched === null || locked)) {
        launchedMs = performance.now();
        launched = launchGuard(this.#places, stateDir, entry ?? GUARD_ENTRY);
      }
      if (performance.now() > untilMs && served) {
        throw unavailable(
          `no guard answers within ${START_MS / 1_000}s in ${this.#places.dir}, where a service manager runs it: systemctl start hostevac-guard, or remove ${this.#places.service}, and workers start their own; see ${this.#places.log}`,
        );
      }
      if (performance.now() > untilMs) {
        throw unavailable(
          `no guard answers within ${START_MS / 1_000}s in ${this.#places.dir}; see ${this.#places.log}, and which process holds its lock: fuser ${this.#places.lock}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }

  /** False: it ended meanwhile. */
  async #greet(connection: GuardConnection): Promise<boolean> {
    const { pid: ownPid, startTicks } = thisProcess();
    const hello = { type: 'hello', version: PROTOCOL_VERSION, process: { pid: ownPid, startTicks } } as const;
    try {
      const { version, pid } = await connection.ask(hello, welcomeSchema);
      if (version !== PROTOCOL_VERSION) {
        await connection.close();
        throw unavailable(
          `the guard that runs (process ${pid}) is of another version of hostevac; end the workers that use it, or it (SIGTERM: it restores everything first)`,
        );
      }
      for (const gate of this.#gates.values()) await connection.ask(gate, doneSchema);
    } catch (error) {
      if (!(error instanceof ConnectionEnded)) throw error;
      if (connection.hung) this.#hung = connection;
      return false;
    }
    connection.pingWith(hello);
    this.#connection = connection;
    connection.onEnd(() => this.#ended(connection));
    if (this.#closed) await connection.close();
    return true;
  }

  #ended(connection: GuardConnection): void {
    if (this.#connection === connection) this.#connection = null;
    if (connection.hung) this.#hung = connection;
    if (this.#watching && !this.#closed) void this.#revive();
  }

  #guard(): GuardIdentity | null {
    try {
      return readIdentity(this.#places);
    } catch (error) {
      throw unavailable(`${this.#places.identity} cannot be read: ${String(error)}`, error);
    }
  }

  async #endHung(): Promise<void> {
    const hung = this.#hung;
    if (hung === null) return;
    this.#hung = null;
    if (hung.guard !== null) return this.#end(hung.guard);
    throw unavailable(
      `the guard does not answer, and ${this.#places.identity} does not say which process it is; find it (fuser ${this.#places.lock}) and end it (kill -9): the next one restores what it held`,
    );
  }

  /** It restores nothing any more; the next one does, before it takes a connection. */
  async #end(guard: GuardIdentity): Promise<void> {
    const { pid } = guard;
    try {
      if (!(await endProcess(guard))) throw new Error(`process ${pid} belongs to another machine or container`);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw unavailable(
        `the guard (process ${pid}) does not answer and cannot be ended: ${why}; end it there (kill -9 ${pid}): the next one restores what it held`,
        error,
      );
    }
    this.#options.log(`the guard (process ${pid}) did not answer and was ended; the next one restores what it held`);
  }

  /** The next guard restores what this one has left, though nobody wants anything of it now. */
  async #revive(): Promise<void> {
    let told = '';
    while (!this.#closed) {
      try {
        await this.#connected();
        this.#options.log('the guard had ended; the next one runs');
        return;
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        if (message !== told && !this.#closed) this.#options.log(message);
        told = message;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref());
      }
    }
  }

  /** A journal that cannot be read is for the guard to say so. */
  #leftBehind(): boolean {
    try {
      const { throttles, gates, damage } = readJournal(this.#places.journal);
      return throttles.length > 0 || gates.length > 0 || damage !== null;
    } catch {
      return true;
    }
  }
}

/** The token, in the tick of the write; throws `leaseLost`. */
function fenced(fence: Fence): number {
  fence.assertHeld();
  return fence.token;
}

function unavailable(message: string, cause?: unknown): HostevacError {
  return new HostevacError('throttleUnavailable', message, { cause });
}
