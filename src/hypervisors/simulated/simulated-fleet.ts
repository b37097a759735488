/**
 * One process's view of the simulated fleet: the log's entries folded so far, carried on to the time of asking. What
 * is kept here is a cache only; a process that dies takes nothing of the fleet with it.
 */
import { HostevacError, type Reason } from '../../domain/errors.ts';
import { COMPACT_ABOVE, type LogRead, type SimulationLog } from './log.ts';
import type { Command, GuestCommand, InjectedFault, SimulatedFleetSpec, State } from './model.ts';
import { advance, apply, initialState } from './step.ts';

/** Answers kept until whoever sent the command has read his; answers come in the order of sending. */
const ANSWERS_KEPT = 4_096;

export class SimulatedFleet {
  readonly #log: SimulationLog;
  /** Right after the last entry that was folded. */
  #folded: State;
  /** The same without further entries, but later: spares advancing over the same time again. */
  #ahead: State;
  readonly #answers = new Map<number, Reason | null>();
  #compacting = false;

  constructor({ fleet, log }: { readonly fleet: SimulatedFleetSpec; readonly log: SimulationLog }) {
    this.#log = log;
    this.#folded = initialState(fleet);
    this.#ahead = this.#folded;
  }

  /** The fleet as it is now. Throws `redisAway`, `fleetMismatch`. */
  async view(): Promise<State> {
    return this.#take(await this.#log.readSince(this.#folded.index));
  }

  /** Has a command carried out. Goes out in the tick of the call; throws what the fleet refuses it with. */
  async send(command: GuestCommand): Promise<void> {
    return this.#append(command);
  }

  /** Lets something go wrong now. */
  async inject(fault: InjectedFault): Promise<void> {
    return this.#append({ kind: 'fault', fault });
  }

  async #append(command: Command): Promise<void> {
    const read = await this.#log.append(command, this.#folded.index);
    this.#take(read);
    const refusal = this.#answers.get(read.index);
    if (read.length > COMPACT_ABOVE) await this.#compact();
    if (refusal === undefined) {
      throw new HostevacError('internal', `the simulated fleet has no answer to its command ${read.index}`);
    }
    if (refusal !== null) throw new HostevacError(refusal.code, refusal.message);
  }

  #take({ nowMs, snapshot, entries }: LogRead): State {
    if (snapshot !== null && snapshot.index > this.#folded.index) {
      this.#folded = snapshot;
      this.#ahead = snapshot;
    }
    for (const entry of entries) {
      if (entry.index <= this.#folded.index) continue;
      // Redis took its machine's clock back: what was computed beyond this entry did not happen.
      const from = this.#ahead.nowMs <= entry.atMs ? this.#ahead : this.#folded;
      const { state, refusal } = apply(from, entry);
      this.#folded = state;
      this.#ahead = state;
      this.#answers.set(entry.index, refusal);
      this.#answers.delete(entry.index - ANSWERS_KEPT);
    }
    this.#ahead = advance(this.#ahead, nowMs);
    return this.#ahead;
  }

  async #compact(): Promise<void> {
    if (this.#compacting) return;
    this.#compacting = true;
    try {
      await this.#log.compact(this.#folded);
    } catch (error) {
      // The command itself has been done, and the next writer will try again. Anything but an absent Redis is a fault.
      if (!(error instanceof HostevacError && error.code === 'redisAway')) throw error;
    } finally {
      this.#compacting = false;
    }
  }
}
