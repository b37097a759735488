/**
 * The gates of the migrations that this process drives: opened before one starts that waits for a last word, abandoned
 * as soon as this process no longer follows it. A process that lives is no promise that it drives: it may hang on Redis.
 */
import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { reasonOf } from '../../domain/errors.ts';
import type { Examiner } from './examine.ts';
import type { Gatekeeper } from './gatekeeper.ts';
import type { VmEntry } from './run-dir.ts';
import { outgoingStatusOf } from './translate.ts';
import type { VmDir } from './vm-dir.ts';
import type { Watches } from './watch.ts';

interface Gate {
  readonly host: string;
  readonly vm: string;
}

export class Gates {
  readonly #gatekeeper: Gatekeeper | null;
  readonly #watches: Watches;
  readonly #examiner: Examiner;
  readonly #log: Logger;
  /** Those that this process attends, by VM directory. */
  readonly #attended = new Map<string, Gate>();

  constructor(given: {
    readonly gatekeeper: Gatekeeper | null;
    readonly watches: Watches;
    readonly examiner: Examiner;
    readonly log: Logger;
  }) {
    this.#gatekeeper = given.gatekeeper;
    this.#watches = given.watches;
    this.#examiner = given.examiner;
    this.#log = given.log;
  }

  /**
   * Before a migration starts. Waiting before the switchover needs somebody who hears of it at once, and somebody who
   * ends the wait when this process cannot, with a socket for that. False: there is none; then the migration must switch
   * over by itself.
   */
  async open(host: string, { dir, definition }: VmEntry): Promise<boolean> {
    const vm = definition.name;
    if (this.#gatekeeper === null || !existsSync(dir.spare)) return false;
    if (!(await this.#watches.listen(dir))) {
      const why = `another client holds ${dir.monitor}`;
      this.#log.warn({ host, vm, why }, 'its events cannot be heard: it switches over without a last word');
      return false;
    }
    return this.#open(host, vm, dir);
  }

  /**
   * For a migration under way that may wait: whoever drives it on is the one whose word it waits for. Where that one
   * cannot hear of it the gatekeeper gives the word. Nothing is done about a gate that this process attends already.
   */
  async reopen(host: string, { dir, definition }: VmEntry): Promise<void> {
    const vm = definition.name;
    if (this.#gatekeeper === null || !existsSync(dir.spare) || this.#attended.has(dir.path)) return;
    await this.#watches.listen(dir);
    if (!(await this.#open(host, vm, dir))) return;
    try {
      const qemu = await this.#examiner.answered(dir, vm);
      // That it waits may have been said before this process listened.
      if (qemu !== null && outgoingStatusOf(qemu.runState, qemu.migration) === 'preSwitchover')
        this.#watches.waits(dir);
    } catch (error) {
      this.#log.warn({ host, vm, why: reasonOf(error).message }, 'whether it waits for its last word is not known');
      await this.abandon(dir);
    }
  }

  /** False: nobody attends it. */
  async #open(host: string, vm: string, dir: VmDir): Promise<boolean> {
    try {
      await this.#gatekeeper?.open({ host, vm, monitor: dir.spare });
    } catch (error) {
      this.#log.warn({ host, vm, why: reasonOf(error).message }, 'no gatekeeper: nobody waits for a last word');
      return false;
    }
    this.#attended.set(dir.path, { host, vm });
    if (this.#watches.listens(dir)) return true;
    await this.abandon(dir);
    return false;
  }

  /** This process no longer follows it: the gatekeeper gives the word. Never rejects. */
  async abandon(dir: VmDir): Promise<void> {
    const gate = this.#attended.get(dir.path);
    if (gate === undefined) return;
    this.#attended.delete(dir.path);
    await this.#abandon(gate);
  }

  async abandonAll(): Promise<void> {
    const gates = [...this.#attended.values()];
    this.#attended.clear();
    await Promise.all(gates.map((gate) => this.#abandon(gate)));
  }

  /** Its migration has ended. */
  async close(host: string, vm: string, dir: VmDir): Promise<void> {
    this.#attended.delete(dir.path);
    this.#watches.end(dir);
    try {
      await this.#gatekeeper?.close({ host, vm });
    } catch (error) {
      // The gate guards a migration that is over; that is what counts.
      this.#log.warn({ host, vm, why: reasonOf(error).message }, 'the gate of an ended migration stays open');
    }
  }

  async #abandon(gate: Gate): Promise<void> {
    try {
      await this.#gatekeeper?.abandon(gate);
    } catch (error) {
      const why = reasonOf(error).message;
      this.#log.error({ ...gate, why }, 'a gate that nobody attends cannot be abandoned: its guest may stand still');
    }
  }
}
