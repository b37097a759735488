/**
 * Gates: migrations that stop before their switchover for a last word (`pause-before-switchover`). A worker that dies
 * must not leave its guest standing still there: while whoever opened a gate beats, nothing is done; else the guard
 * looks over the VM's spare monitor socket and gives the word itself. What becomes of the migration is the next
 * worker's business.
 */
import { connect } from 'node:net';
import { z } from 'zod';
import type { QmpConnect } from '../../hypervisors/qemu/qmp/qmp.ts';
import { errnoOf } from '../cgroup/files.ts';
import type { Log } from './guard-log.ts';
import type { GateRecord } from './journal.ts';
import { type GuardStatus, STALE_MS } from './protocol.ts';

/** Between two looks, and at most for one: the guest may stand still all the while. */
const LOOK_EVERY_MS = 50;
const LOOK_TIMEOUT_MS = 1_000;

/** QEMU's MigrationStatus; others (completed, failed, cancelled, none, post-copy) need no word any more. */
const UNDER_WAY = ['setup', 'wait-unplug', 'active', 'pre-switchover', 'device', 'cancelling'];

const migrationSchema = z.object({ status: z.string().optional() });

interface Gate {
  readonly record: GateRecord;
  attended: () => boolean;
  looking: boolean;
  nextLookMs: number;
  failure: string;
}

export class Gates {
  readonly #gates = new Map<string, Gate>();
  readonly #given: {
    readonly connect: QmpConnect;
    readonly save: (gates: readonly GateRecord[]) => void;
    readonly log: Log;
    readonly now: () => number;
  };

  constructor(given: {
    connect: QmpConnect;
    save: (gates: readonly GateRecord[]) => void;
    log: Log;
    now: () => number;
  }) {
    this.#given = given;
  }

  get idle(): boolean {
    return this.#gates.size === 0;
  }

  /** What an earlier guard left: whoever opened them gets the time to say so again. */
  recover(records: readonly GateRecord[]): void {
    const startedMs = this.#given.now();
    for (const record of records) this.#add(record, () => this.#given.now() - startedMs < STALE_MS);
  }

  /** Throws when the journal cannot be written; then the gate is not open. */
  open({ host, vm, monitor }: { host: string; vm: string; monitor: string }, attended: () => boolean): void {
    const record = { kind: 'gate', host, vm, monitor } as const;
    const before = this.#gates.get(keyOf(record));
    this.#add(record, attended);
    if (before?.record.monitor === monitor) return;
    try {
      this.#save();
    } catch (error) {
      if (before === undefined) this.#gates.delete(keyOf(record));
      else this.#gates.set(keyOf(record), before);
      throw error;
    }
  }

  /** Nobody attends it until it is opened again. Harmless when there is no such gate. */
  abandon(key: { readonly host: string; readonly vm: string }): void {
    const gate = this.#gates.get(keyOf(key));
    if (gate === undefined) return;
    gate.attended = () => false;
    this.tick();
  }

  close(key: { readonly host: string; readonly vm: string }): void {
    if (this.#gates.delete(keyOf(key))) this.#save();
  }

  tick(): void {
    for (const gate of this.#gates.values()) {
      if (gate.looking || gate.attended() || gate.nextLookMs > this.#given.now()) continue;
      gate.looking = true;
      void this.#look(gate).finally(() => {
        gate.looking = false;
        gate.nextLookMs = this.#given.now() + LOOK_EVERY_MS;
      });
    }
  }

  status(): GuardStatus['gates'] {
    return [...this.#gates.values()].map(({ record, attended }) => ({
      host: record.host,
      vm: record.vm,
      monitor: record.monitor,
      watching: !attended(),
    }));
  }

  #add(record: GateRecord, attended: () => boolean): void {
    this.#gates.set(keyOf(record), { record, attended, looking: false, nextLookMs: 0, failure: '' });
  }

  /** One short connection: others need the socket as well. */
  async #look(gate: Gate): Promise<void> {
    const { host, vm, monitor } = gate.record;
    try {
      const qmp = await this.#given.connect(monitor, { timeoutMs: LOOK_TIMEOUT_MS });
      try {
        const { status = 'none' } = await qmp.execute(
          'query-migrate',
          migrationSchema,
          {},
          { timeoutMs: LOOK_TIMEOUT_MS },
        );
        if (status === 'pre-switchover' && !gate.attended() && this.#gates.get(keyOf(gate.record)) === gate) {
          await qmp.execute('migrate-continue', z.unknown(), { state: status }, { timeoutMs: LOOK_TIMEOUT_MS });
          this.#given.log(`${host}/${vm}: nobody gave the last word; told the waiting migration to go on`);
        } else if (!UNDER_WAY.includes(status)) this.#drop(gate, `its migration is ${status}`);
        gate.failure = '';
      } finally {
        qmp.close();
      }
    } catch (error) {
      await this.#failed(gate, error);
    }
  }

  async #failed(gate: Gate, error: unknown): Promise<void> {
    const { host, vm, monitor } = gate.record;
    const message = error instanceof Error ? error.message : String(error);
    if (await isAbandoned(monitor)) {
      this.#drop(gate, `nobody listens at ${monitor}`);
      return;
    }
    if (message !== gate.failure)
      this.#given.log(`${host}/${vm}: cannot look at its migration, trying again: ${message}`);
    gate.failure = message;
  }

  #drop(gate: Gate, why: string): void {
    const { host, vm } = gate.record;
    if (this.#gates.get(keyOf(gate.record)) !== gate) return;
    this.#gates.delete(keyOf(gate.record));
    this.#given.log(`${host}/${vm}: no longer watched: ${why}`);
    try {
      this.#save();
    } catch (error) {
      // The next guard finds out by itself that there is nothing to wait for.
      this.#given.log(`the journal cannot be written: ${String(error)}`);
    }
  }

  #save(): void {
    this.#given.save([...this.#gates.values()].map(({ record }) => record));
  }
}

function keyOf({ host, vm }: { readonly host: string; readonly vm: string }): string {
  return JSON.stringify([host, vm]);
}

/** Nobody has this socket: QEMU, which made it, has ended. One that is busy or hangs has it. */
function isAbandoned(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', (error) => resolve(['ENOENT', 'ECONNREFUSED'].includes(errnoOf(error))));
  });
}
