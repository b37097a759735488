/**
 * What has ended since this process began to look, from the records: each operation and each move once, whatever
 * process carried it out. What had ended before counts for nobody, so that counters start at 0 as Prometheus expects.
 */
import { LOUDEST, type Loudest } from '../domain/errors.ts';
import {
  ENDED_MOVE_STATES,
  ENDED_OPERATION_STATES,
  type MoveRecord,
  type OperationRecord,
  type VmTask,
} from '../domain/operation.ts';
import type { Records } from '../store/records.ts';

export interface EndedMove {
  readonly move: MoveRecord;
  readonly operation: OperationRecord;
}

export interface Endangered {
  readonly task: VmTask;
  readonly reason: Loudest;
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
  /** VMs whose part in an operation has ended so, also where it was seen before any move was made. */
  readonly endangered: readonly Endangered[];
}

/** Ids that are remembered beside those that the index lists: a store that lost an end may tell it again. */
const REMEMBERED = 5_000;

type Ports = Pick<Records, 'operationIds' | 'operation' | 'moves'>;

export class Ended {
  readonly #records: Ports;
  /** Operations whose end has been counted, or came before the first look; oldest first. */
  #counted = new Set<string>();
  /** Of operations that go on: the moves whose end has been counted, and the VMs in danger. */
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
    const endangered = [...active, ...ended].flatMap((operation) =>
      endangeredOf(operation).filter(({ task }) => this.#moves.get(operation.id)?.has(keyOf(task)) !== true),
    );
    const isFirst = !this.#begun;
    this.#remember(ids.ended, active, ended, { endedMoves, endangered });
    if (isFirst) return { active, moves, endedOperations: [], endedMoves: [], endangered: [] };
    return { active, moves, endedOperations: ended, endedMoves, endangered };
  }

  #remember(
    listed: readonly string[],
    active: readonly OperationRecord[],
    ended: readonly OperationRecord[],
    { endedMoves, endangered }: Pick<Look, 'endedMoves' | 'endangered'>,
  ): void {
    this.#begun = true;
    for (const id of [...listed, ...ended.map((one) => one.id)]) this.#counted.add(id);
    const beyond = this.#counted.size - Math.max(REMEMBERED, listed.length);
    if (beyond > 0) this.#counted = new Set([...this.#counted].slice(beyond));
    this.#moves = new Map(
      active.map(({ id }) => {
        const isIts = ({ operation }: EndedMove | Endangered): boolean => operation.id === id;
        const now = [
          ...endedMoves.filter(isIts).map(({ move }) => move.id),
          ...endangered.filter(isIts).map(({ task }) => keyOf(task)),
        ];
        return [id, new Set([...(this.#moves.get(id) ?? []), ...now])];
      }),
    );
  }
}

/** No id of a move: those hold no space. */
function keyOf({ vm }: VmTask): string {
  return `vm ${vm}`;
}

function endangeredOf(operation: OperationRecord): Endangered[] {
  return operation.tasks.flatMap((task) => {
    const reason = LOUDEST.find((code) => code === task.reason?.code);
    return reason === undefined || !ENDED_MOVE_STATES.has(task.state) ? [] : [{ task, reason, operation }];
  });
}
