/**
 * The records of operations and moves, over cells. One index per fleet holds every active request, the idempotency keys
 * and who is evacuated, so that creating an operation is one atomic write; an operation's own record can be rebuilt from
 * it. Ended records expire. What the records mean is the workflows' business.
 */
import { z } from 'zod';
import { type History, historySchema, NO_HISTORY } from '../convergence/history.ts';
import { HostevacError } from '../domain/errors.ts';
import {
  type Control,
  controlSchema,
  ENDED_MOVE_STATES,
  ENDED_OPERATION_STATES,
  type MoveRecord,
  moveRecordSchema,
  NO_CONTROL,
  type OperationRecord,
  type OperationState,
  operationRecordSchema,
} from '../domain/operation.ts';
import { newestFirst } from '../domain/operation-id.ts';
import { type OperationRequest, requestSchema } from '../domain/request.ts';
import { Cell, type CellStore } from './cell.ts';
import type { Fence } from './lease.ts';

/** Ended records are kept this long (real time) and the index lists at most this many of them. */
const KEEP_ENDED_MS = 7 * 86_400_000;
const KEEP_ENDED_COUNT = 500;
const KEEP_KEYS_COUNT = 1_000;
/** Records that are read at once. */
const READ_AT_ONCE = 100;

/** What was left as it is for a person must not look like something forgotten before that person has come. */
const KEEP_HALTED_MS = 365 * 86_400_000;

/** What is known of a VM from its migrations is kept this long after the last one (real time). */
const KEEP_HISTORY_MS = 30 * 86_400_000;

const indexSchema = z.object({
  active: z.record(z.string(), z.object({ request: requestSchema, createdAtMs: z.number() })),
  /** Newest last. */
  ended: z.array(z.string()),
  keys: z.record(z.string(), z.object({ id: z.string(), content: z.string(), atMs: z.number() })),
});
type Index = z.infer<typeof indexSchema>;

const storedOperation = operationRecordSchema.nullable();
const storedMove = moveRecordSchema.nullable();

export interface NewOperation {
  readonly id: string;
  readonly request: OperationRequest;
  /** Fleet time; 0 when the producer does not know the fleet's clock: the first turn sets it. */
  readonly createdAtMs: number;
  readonly idempotencyKey: string | null;
}

export interface OperationsPage {
  readonly limit: number;
  /** The id of the last operation of the page before. */
  readonly before?: string;
  readonly states?: readonly OperationState[];
}

export type Creation = { readonly id: string; readonly acceptance: 'created' | 'joined' | 'repeated' };

/** Topic on which a change to an operation, its moves or its flags wakes those who follow it. */
export const operationTopic = (operationId: string): string => `operation:${operationId}`;

export class Records {
  readonly #store: CellStore;
  readonly #index: Cell<Index>;
  /** A worker writes its move once a second: as long as nobody else did, what it wrote need not be read first. */
  readonly #lastSaved = new WeakMap<Fence, { readonly id: string; readonly version: number | null }>();

  constructor(store: CellStore) {
    this.#store = store;
    this.#index = new Cell(store, 'index', indexSchema, { active: {}, ended: [], keys: {} });
  }

  /**
   * Keeps a request. The same key with the same content gives the operation that it made (`repeated`); an evacuation of
   * a host that is being evacuated joins it. Throws `idempotencyConflict`.
   */
  create(operation: NewOperation): Promise<Creation> {
    const content = JSON.stringify(operation.request);
    return this.#index.update<Creation>((index) => {
      const key = operation.idempotencyKey;
      // A key may be called `constructor`: only own properties count.
      const known = key !== null && Object.hasOwn(index.keys, key) ? index.keys[key] : undefined;
      if (known !== undefined) {
        if (!sameRequest(known.content, operation.request)) {
          throw new HostevacError(
            'idempotencyConflict',
            `The idempotency key "${operation.idempotencyKey}" was used for another request (operation ${known.id}); use a new key for a new request`,
          );
        }
        return { unchanged: true, result: { id: known.id, acceptance: 'repeated' } };
      }
      const id = evacuationOf(index, operation.request) ?? operation.id;
      const created = id === operation.id;
      const keys =
        operation.idempotencyKey === null
          ? index.keys
          : newest({ ...index.keys, [operation.idempotencyKey]: { id, content, atMs: operation.createdAtMs } });
      if (!created && keys === index.keys) return { unchanged: true, result: { id, acceptance: 'joined' } };
      const active = created
        ? { ...index.active, [id]: { request: operation.request, createdAtMs: operation.createdAtMs } }
        : index.active;
      return { value: { ...index, active, keys }, result: { id, acceptance: created ? 'created' : 'joined' } };
    });
  }

  async activeOperations(): Promise<string[]> {
    return Object.keys((await this.#index.read()).active);
  }

  /** Those that the index lists: ended ones oldest first, a bounded number of them. */
  async operationIds(): Promise<{ readonly active: readonly string[]; readonly ended: readonly string[] }> {
    const { active, ended } = await this.#index.read();
    return { active: Object.keys(active), ended };
  }

  /** Newest first, active ones before ended ones. */
  async recentOperations(limit: number): Promise<OperationRecord[]> {
    const index = await this.#index.read();
    const active = Object.entries(index.active).sort(([, a], [, b]) => b.createdAtMs - a.createdAtMs);
    const ids = [...active.map(([id]) => id), ...index.ended.toReversed()].slice(0, limit);
    const records = await Promise.all(ids.map((id) => this.operation(id)));
    return records.filter((record) => record !== null);
  }

  /**
   * Newest first by when they were asked for, at most `limit`, those behind the operation `before`: what is asked for or ends
   * between two pages moves no other to another page. `states`: only those that are in one of these.
   */
  async operationsPage({ limit, before, states }: OperationsPage): Promise<OperationRecord[]> {
    const { active, ended } = await this.#index.read();
    const byCreation = Object.entries(active).sort(([, a], [, b]) => b.createdAtMs - a.createdAtMs);
    const ids = [...byCreation.map(([id]) => id), ...ended.toReversed()].sort(newestFirst);
    const page: OperationRecord[] = [];
    for (let at = before === undefined ? 0 : placeBehind(ids, before); at < ids.length; at += READ_AT_ONCE) {
      const texts = await this.#store.readMany(ids.slice(at, at + READ_AT_ONCE).map((id) => `operation:${id}`));
      for (const [index, { text }] of texts.entries()) {
        const record = this.#recordOf(ids[at + index] ?? '', text, active);
        if (record === null || states?.includes(record.state) === false) continue;
        page.push(record);
        if (page.length >= limit) return page;
      }
    }
    return page;
  }

  #recordOf(id: string, text: string | null, active: Index['active']): OperationRecord | null {
    if (text !== null) return storedOperation.parse(JSON.parse(text));
    const entry = own(active, id);
    return entry === undefined ? null : initialRecord(id, entry.request, entry.createdAtMs);
  }

  /** null: never was, or expired. */
  async operation(id: string): Promise<OperationRecord | null> {
    const record = await this.#operationCell(id).read();
    if (record !== null) return record;
    const entry = own((await this.#index.read()).active, id);
    return entry === undefined ? null : initialRecord(id, entry.request, entry.createdAtMs);
  }

  /** Refused (`leaseLost`) when a successor has written. Ending an operation takes it out of the active ones. */
  async saveOperation(fence: Fence, record: OperationRecord): Promise<void> {
    fence.assertHeld();
    await this.#operationCell(record.id).update((current) => {
      refuseStale(fence, current, record.id);
      return { value: { ...record, token: fence.token }, result: undefined };
    });
    if (ENDED_OPERATION_STATES.has(record.state)) await this.retire(record.id);
  }

  async moves(ids: readonly string[]): Promise<(MoveRecord | null)[]> {
    if (ids.length === 0) return [];
    const texts = await this.#store.readMany(ids.map((id) => `move:${id}`));
    return texts.map(({ text }) => (text === null ? null : moveRecordSchema.parse(JSON.parse(text))));
  }

  async move(id: string): Promise<MoveRecord | null> {
    return this.#moveCell(id, '').read();
  }

  /** Creates the record of a move that is to be made; one that is there already is left as it is. */
  async createMove(record: MoveRecord): Promise<void> {
    await this.#moveCell(record.id, record.operationId).update((current) =>
      current === null ? { value: record, result: undefined } : { unchanged: true, result: undefined },
    );
  }

  /** Refused (`leaseLost`) when a successor has written. */
  async saveMove(fence: Fence, record: MoveRecord): Promise<void> {
    fence.assertHeld();
    const last = this.#lastSaved.get(fence);
    const value = { ...record, token: fence.token };
    const known = last?.id === record.id ? last.version : null;
    const cell = this.#moveCell(record.id, record.operationId);
    const version = await cell.replace(value, known, (current) => refuseStale(fence, current, record.id));
    this.#lastSaved.set(fence, { id: record.id, version });
  }

  /** Ends a move that no worker has begun (cancelled before its turn). False: somebody began it. */
  async endUnbegunMove(id: string, change: Pick<MoveRecord, 'state' | 'reason' | 'endedAtMs'>): Promise<boolean> {
    const operationId = (await this.move(id))?.operationId ?? '';
    return this.#moveCell(id, operationId).update<boolean>((current) => {
      if (current === null || current.token > 0) return { unchanged: true, result: false };
      return { value: { ...current, ...change, step: 'cancelled' }, result: true };
    });
  }

  /** What was learned of a VM in its earlier migrations. */
  async history(uuid: string): Promise<History> {
    return this.#historyCell(uuid).read();
  }

  /** Refused (`leaseLost`) for whoever has lost the VM's lease. */
  async learn(fence: Fence, uuid: string, change: (history: History) => History): Promise<void> {
    await this.#historyCell(uuid).update((history) => {
      fence.assertHeld();
      return { value: change(history), result: undefined };
    });
  }

  async control(operationId: string): Promise<Control> {
    return this.#controlCell(operationId).read();
  }

  /** Sets flags; the result says whether anything changed. */
  async setControl(operationId: string, change: Partial<Control>): Promise<boolean> {
    return this.#controlCell(operationId).update<boolean>((current) => {
      const value = { ...current, ...change };
      const same = JSON.stringify(value) === JSON.stringify(current);
      return same ? { unchanged: true, result: false } : { value, result: true };
    });
  }

  /** What was approved is not what is proposed any more. False: that is not what was approved last. */
  async forgetApproval(operationId: string, hash: string): Promise<boolean> {
    return this.#controlCell(operationId).update<boolean>((current) =>
      current.approved === hash
        ? { value: { ...current, approved: null }, result: true }
        : { unchanged: true, result: false },
    );
  }

  /**
   * Takes an ended operation out of the active ones and lets its flags expire. Harmless twice, and where it has not ended: a
   * store that failed over between its record's end and this may have lost that end, and nobody would look at it again.
   */
  async retire(id: string): Promise<void> {
    let hasEnded = false;
    const look = async (): Promise<void> => {
      const record = await this.#operationCell(id).read();
      hasEnded = record !== null && ENDED_OPERATION_STATES.has(record.state);
    };
    await this.#index.updateGuarded((index) => {
      if (!hasEnded || own(index.active, id) === undefined) return { unchanged: true, result: undefined };
      const { [id]: _ended, ...active } = index.active;
      return { value: { ...index, active, ended: [...index.ended, id].slice(-KEEP_ENDED_COUNT) }, result: undefined };
    }, look);
    if (hasEnded) await this.#controlCell(id, true).update((value) => ({ value, result: undefined }));
  }

  #operationCell(id: string): Cell<OperationRecord | null> {
    return new Cell(this.#store, `operation:${id}`, storedOperation, null, {
      topic: operationTopic(id),
      expireMs: (record) => (record !== null && ENDED_OPERATION_STATES.has(record.state) ? KEEP_ENDED_MS : undefined),
    });
  }

  #moveCell(id: string, operationId: string): Cell<MoveRecord | null> {
    return new Cell(this.#store, `move:${id}`, storedMove, null, {
      topic: operationTopic(operationId),
      expireMs: (record) => {
        if (record === null || !ENDED_MOVE_STATES.has(record.state)) return undefined;
        return record.step === 'halted' ? KEEP_HALTED_MS : KEEP_ENDED_MS;
      },
    });
  }

  #historyCell(uuid: string): Cell<History> {
    return new Cell(this.#store, `history:${uuid}`, historySchema, NO_HISTORY, { expireMs: () => KEEP_HISTORY_MS });
  }

  #controlCell(operationId: string, ended = false): Cell<Control> {
    return new Cell(this.#store, `control:${operationId}`, controlSchema, NO_CONTROL, {
      topic: operationTopic(operationId),
      // While it is active its flags stay: a paused operation must not go on by itself.
      expireMs: () => (ended ? KEEP_ENDED_MS : undefined),
    });
  }
}

export function initialRecord(id: string, request: OperationRequest, createdAtMs: number): OperationRecord {
  return {
    id,
    request,
    state: 'queued',
    createdAtMs,
    startedAtMs: null,
    endedAtMs: null,
    round: 0,
    tasks: [],
    reason: null,
    waitingFor: [],
    waitingSinceMs: null,
    waitingSeenMs: null,
    empty: null,
    proposal: null,
    approvedAtMs: null,
    token: 0,
  };
}

/** Without a precedence: kept by a version in which a request could choose neither that nor the controller. */
const choiceSchema = z.object({ policy: z.object({ precedence: z.unknown().optional() }) });

/**
 * Whether a request is the one that was kept under its key: by meaning, not by how it was written down. One that an earlier
 * version kept is compared in what could be asked for then; the rest came from that version's defaults.
 */
function sameRequest(content: string, request: OperationRequest): boolean {
  const written: unknown = JSON.parse(content);
  const kept = requestSchema.safeParse(written);
  if (!kept.success) return false;
  const asked = requestSchema.parse(request);
  const chose = choiceSchema.safeParse(written).data?.policy.precedence !== undefined;
  const { precedence, controller } = chose ? asked.policy : kept.data.policy;
  const meant = { ...asked, policy: { ...asked.policy, precedence, controller } };
  // Parsed both, so that their members stand in one order.
  return JSON.stringify(kept.data) === JSON.stringify(requestSchema.parse(meant));
}

/** An operation may be asked for by any name, `valueOf` too: only own properties count. */
function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

/** An operation that is not listed any more still has its place. */
function placeBehind(ids: readonly string[], before: string): number {
  const at = ids.indexOf(before);
  if (at >= 0) return at + 1;
  const next = ids.findIndex((id) => newestFirst(before, id) < 0);
  return next < 0 ? ids.length : next;
}

function evacuationOf(index: Index, request: OperationRequest): string | undefined {
  if (request.kind !== 'evacuateNode') return undefined;
  return Object.entries(index.active).find(
    ([, entry]) => entry.request.kind === 'evacuateNode' && entry.request.host === request.host,
  )?.[0];
}

function newest(keys: Index['keys']): Index['keys'] {
  const entries = Object.entries(keys).sort(([, a], [, b]) => a.atMs - b.atMs);
  return Object.fromEntries(entries.slice(-KEEP_KEYS_COUNT));
}

function refuseStale(fence: Fence, current: { readonly token: number } | null, id: string): void {
  if (current !== null && current.token > fence.token) {
    throw new HostevacError(
      'leaseLost',
      `${id}: another process has taken over (token ${current.token} > ${fence.token})`,
    );
  }
}
