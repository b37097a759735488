/**
 * What has ended since this process began to look, from the records: each operation and each move once, whatever
 * process carried it out. What had ended before counts for nobody, so that counters start at 0 as Prometheus expects.
 */
import {
  ENDED_MOVE_STATES,
  ENDED_OPERATION_STATES,
  type MoveRecord,
  type OperationRecord,
} from '../domain/operation.ts';
import type { Records } from '../store/records.ts';

export interface EndedMove {
  readonly move: MoveRecord;
  readonly operation: OperationRecord;
}

export interface Look {
  /** Not ended. */
  readonly active: readonly OperationRecord[];
  /** Their current moves that have not ended. */
  readonly moves: readonly MoveRecord[];
  /** Since the look before this one; none at the first. */
  readonly endedOperations: readonly OperationRecord[];
  readonly endedMoves: readonly EndedMove[];
}

/** Ids that are remembered beside those that the index lists: a store that lost an end may tell it again. */
const REMEMBERED = 5_000;

type Ports = Pick<Records, 'operationIds' | 'operation' | 'moves'>;

export class Ended {
  readonly #records: Ports;
  /** Operations whose end has been counted, or came before the first look; oldest first. */
  #counted = new Set<string>();
  /** Of operations that go on: the moves whose end has been counted. */
  #moves = new Map<string, ReadonlySet<string>>();
  #begun = false;

  constructor(records: Ports) {
    this.#records = records;
  }

  /** All is read before anything counts: a look that fails half way is made again as a whole. */
  async look(): Promise<Look> {
    const ids = await this.#records.operationIds();
    const newlyEnded = ids.ended.filter((id) => !this.#counted.has(id));
    const wanted = this.#begun ? [...ids.active, ...newlyEnded] : ids.active;
    const found = await Promise.all([...new Set(wanted)].map((id) => this.#records.operation(id)));
    const operations = found.filter((record) => record !== null);
    const active = operations.filter((record) => !ENDED_OPERATION_STATES.has(record.state));
    const ended = operations.filter(
      (record) => ENDED_OPERATION_STATES.has(record.state) && !this.#counted.has(record.id),
    );

    const uncounted = [...active, ...ended].flatMap((operation) =>
      operation.tasks
        .flatMap(({ moveIds }) => moveIds)
        .filter((id) => this.#moves.get(operation.id)?.has(id) !== true)
        .map((id) => ({ id, operation })),
    );
    const read = await this.#records.moves(uncounted.map(({ id }) => id));
    const moves: MoveRecord[] = [];
    const endedMoves: EndedMove[] = [];
    for (const [index, { operation }] of uncounted.entries()) {
      const move = read[index] ?? null;
      if (move === null) continue;
      if (ENDED_MOVE_STATES.has(move.state)) endedMoves.push({ move, operation });
      else if (!ENDED_OPERATION_STATES.has(operation.state)) moves.push(move);
    }
    const isFirst = !this.#begun;
    this.#remember(ids.ended, active, ended, endedMoves);
    return { active, moves, endedOperations: isFirst ? [] : ended, endedMoves: isFirst ? [] : endedMoves };
  }

  #remember(
    listed: readonly string[],
    active: readonly OperationRecord[],
    ended: readonly OperationRecord[],
    endedMoves: readonly EndedMove[],
  ): void {
    this.#begun = true;
    for (const id of [...listed, ...ended.map((one) => one.id)]) this.#counted.add(id);
    const beyond = this.#counted.size - Math.max(REMEMBERED, listed.length);
    if (beyond > 0) this.#counted = new Set([...this.#counted].slice(beyond));
    this.#moves = new Map(
      active.map(({ id }) => {
        const now = endedMoves.filter(({ operation }) => operation.id === id).map(({ move }) => move.id);
        return [id, new Set([...(this.#moves.get(id) ?? []), ...now])];
      }),
    );
  }
}
