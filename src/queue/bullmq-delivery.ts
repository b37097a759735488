/**
 * Queue delivery on BullMQ. An operation is the parent job of its moves. Between turns it is parked as a delayed job and
 * promoted to wake it: that works from any process and for any cause (a move ended, a flag was set, a worker came back),
 * where a parent in `waiting-children` can only be woken by its children. BullMQ still refuses to complete the parent
 * while children are pending. Attempts are for crashes only; what a move came to is in its record.
 */
import { setMaxListeners } from 'node:events';
import { DelayedError, Job, Queue, type Telemetry, UnrecoverableError, Worker, type WorkerOptions } from 'bullmq';
import type { Redis } from 'ioredis';
import { settledWithin } from '../clock/abortable-sleep.ts';
import { encodeName } from '../domain/names.ts';
import type {
  Consumer,
  Delivery,
  DeliveryConsumers,
  MoveHandler,
  MoveJob,
  OperationHandler,
  OperationTurn,
} from './delivery.ts';
import { moveJobSchema } from './delivery.ts';

const OPERATIONS = 'operations';
const moveQueueName = (host: string): string => `migrations-${encodeName(host)}`;

/** Ended jobs say nothing that the records do not; a few are kept for people who look at the queue. */
const KEEP_ENDED = { age: 86_400, count: 1_000 };

/** How many operations or moves of one queue one process works on at once; the budget orders the moves' starts. */
const CONCURRENCY = 250;
/** A processor that threw is given its job again after this (real ms). */
const AFTER_FAULT_MS = 2_000;
/** Between two looks at whether the jobs of an ended operation's moves have ended too (real ms). */
const CHILDREN_END_MS = 500;
/** Long enough that a closing worker does not fetch again what it has just handed on (real ms). */
const HANDED_ON_MS = 500;
/** BullMQ's own closing may wait for a connection that is gone. */
const FORCED_CLOSE_MS = 2_000;

export interface QueueTimes {
  /** A worker that has not renewed for this long has lost its job. */
  readonly lockMs: number;
  readonly stalledCheckMs: number;
}
export const QUEUE_TIMES: QueueTimes = { lockMs: 10_000, stalledCheckMs: 5_000 };

export interface BullMqOptions {
  readonly prefix: string;
  /** For commands; shared by all queues. */
  readonly redis: Redis;
  /** Takes a trace along in the jobs. */
  readonly telemetry?: Telemetry | undefined;
}

export class BullMqDelivery implements Delivery {
  readonly #options: BullMqOptions;
  readonly #queues = new Map<string, Queue>();

  constructor(options: BullMqOptions) {
    this.#options = options;
  }

  async addOperation(operationId: string): Promise<void> {
    const queue = this.#queue(OPERATIONS);
    await clearEnded(queue, operationId);
    await queue.add(
      'operation',
      { operationId },
      { jobId: operationId, removeOnComplete: KEEP_ENDED, removeOnFail: KEEP_ENDED },
    );
  }

  async wakeOperation(operationId: string): Promise<void> {
    const job = await Job.fromId(this.#queue(OPERATIONS), operationId);
    // Active: its turn reads the records again within its second. Ended or waiting: nothing to do.
    if (job !== undefined && (await job.isDelayed())) await job.promote().catch(ignoreNotDelayed);
  }

  async addMove(job: MoveJob): Promise<void> {
    const queue = this.#queue(moveQueueName(job.source));
    await clearEnded(queue, job.moveId);
    await queue.add('move', moveJobSchema.parse(job), {
      jobId: job.moveId,
      parent: { id: job.operationId, queue: this.#queue(OPERATIONS).qualifiedName },
      // The operation learns of a failure from the record; BullMQ is only told not to hold the parent for it.
      removeDependencyOnFailure: true,
      removeOnComplete: KEEP_ENDED,
      removeOnFail: KEEP_ENDED,
    });
  }

  async removeMove(job: MoveJob): Promise<boolean> {
    const found = await Job.fromId(this.#queue(moveQueueName(job.source)), job.moveId);
    if (found === undefined || !UNBEGUN_STATES.has(await found.getState())) return false;
    return found.remove().then(
      () => true,
      // A worker took it between the two calls: it is locked now.
      () => false,
    );
  }

  async hasMove(job: MoveJob): Promise<boolean> {
    const state = await this.#queue(moveQueueName(job.source)).getJobState(job.moveId);
    return PENDING_STATES.has(state);
  }

  async hasOperation(operationId: string): Promise<boolean> {
    return PENDING_STATES.has(await this.#queue(OPERATIONS).getJobState(operationId));
  }

  /** Hosts whose queue holds a job that is waiting, parked or in the hands of a worker (perhaps a dead one). */
  async hostsWithWork(hosts: readonly string[]): Promise<Set<string>> {
    const counts = await Promise.all(
      hosts.map((host) =>
        this.#queue(moveQueueName(host)).getJobCountByTypes('waiting', 'active', 'delayed', 'prioritized'),
      ),
    );
    return new Set(hosts.filter((_, index) => (counts[index] ?? 0) > 0));
  }

  /** How many jobs there are by state: in the queue of operations, and in those of these hosts together. */
  async depths(hosts: readonly string[]): Promise<Readonly<Record<'operations' | 'migrations', QueueDepth>>> {
    const [operations, ...migrations] = await Promise.all(
      [OPERATIONS, ...hosts.map(moveQueueName)].map((name) => this.#queue(name).getJobCounts(...DEPTH_STATES)),
    );
    const sum = (counts: readonly (Readonly<Record<string, number>> | undefined)[]): QueueDepth => {
      const of = (state: string): number => counts.reduce((total, one) => total + (one?.[state] ?? 0), 0);
      return { waiting: of('waiting') + of('prioritized'), active: of('active'), delayed: of('delayed') };
    };
    return { operations: sum([operations]), migrations: sum(migrations) };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }

  #queue(name: string): Queue {
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = new Queue(name, {
        connection: this.#options.redis,
        prefix: this.#options.prefix,
        skipWaitingForReady: true,
        ...traced(this.#options),
      });
      // Without a listener a lost connection would end the process; the commands themselves report it.
      queue.on('error', () => undefined);
      this.#queues.set(name, queue);
    }
    return queue;
  }
}

const DEPTH_STATES = ['waiting', 'prioritized', 'active', 'delayed'] as const;
export type QueueDepth = Readonly<Record<'waiting' | 'active' | 'delayed', number>>;

const UNBEGUN_STATES: ReadonlySet<string> = new Set(['waiting', 'delayed', 'prioritized']);
const PENDING_STATES: ReadonlySet<string> = new Set([
  'waiting',
  'active',
  'delayed',
  'prioritized',
  'waiting-children',
]);

/** A job that ended before its work did (it stalled for good, or its processor threw) would swallow an add of the same id. */
async function clearEnded(queue: Queue, id: string): Promise<void> {
  const job = await Job.fromId(queue, id);
  if (job !== undefined && ((await job.isFailed()) || (await job.isCompleted()))) await job.remove();
}

function ignoreNotDelayed(error: unknown): void {
  // Somebody else promoted it first.
  if (!(error instanceof Error) || !/not in the delayed state|Missing key/.test(error.message)) throw error;
}

/** What a job is about, for a log. */
function jobOf({ name, id, data }: Job): { readonly operation?: string; readonly move?: string } {
  if (name === 'operation') return { operation: String(id) };
  const known = moveJobSchema.safeParse(data).data;
  return known === undefined ? { move: String(id) } : { operation: known.operationId, move: known.moveId };
}

function traced({ telemetry }: Pick<BullMqOptions, 'telemetry'>): { telemetry?: Telemetry } {
  return telemetry === undefined ? {} : { telemetry };
}

export interface ConsumerOptions extends Pick<BullMqOptions, 'prefix' | 'telemetry'> {
  /** A connection of its own for each worker: it blocks. */
  readonly openRedis: () => Promise<Redis>;
  readonly times?: QueueTimes;
  readonly onError: (error: unknown, job: { readonly operation?: string; readonly move?: string } | null) => void;
}

export class BullMqConsumers implements DeliveryConsumers {
  readonly #options: ConsumerOptions;

  constructor(options: ConsumerOptions) {
    this.#options = options;
  }

  async consumeOperations(handler: OperationHandler): Promise<Consumer> {
    return this.#consume(OPERATIONS, async (job, signal) => {
      const turn: OperationTurn = await handler(String(job.id), signal);
      if (!turn.ended) return { parkMs: turn.againInRealMs };
      // A move is recorded as ended a moment before its job is; BullMQ fails a parent that completes in between.
      const { unprocessed = 0 } = await job.getDependenciesCount({ unprocessed: true });
      return unprocessed > 0 ? { parkMs: CHILDREN_END_MS } : null;
    });
  }

  async consumeMoves(host: string, handler: MoveHandler): Promise<Consumer> {
    return this.#consume(moveQueueName(host), async (job, signal) => {
      const turn = await handler(moveJobSchema.parse(job.data), signal);
      if (turn.kind === 'again') return { parkMs: turn.afterRealMs };
      if (turn.failed !== null) throw new UnrecoverableError(turn.failed);
      return null;
    });
  }

  async #consume(
    name: string,
    work: (job: Job, signal: AbortSignal) => Promise<{ readonly parkMs: number } | null>,
  ): Promise<Consumer> {
    const { prefix, openRedis, times = QUEUE_TIMES, onError } = this.#options;
    const stopping = new AbortController();
    // Every move of a host waits for it, in several places: no leak, however many they are.
    setMaxListeners(0, stopping.signal);
    const redis = await openRedis();
    const options: WorkerOptions = {
      connection: redis,
      prefix,
      concurrency: CONCURRENCY,
      lockDuration: times.lockMs,
      stalledInterval: times.stalledCheckMs,
      // A stalled job is one whose worker died; it is delivered again however often that happens.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: KEEP_ENDED,
      removeOnFail: KEEP_ENDED,
      ...traced(this.#options),
    };
    const worker = new Worker(
      name,
      async (job, token) => {
        let park: { readonly parkMs: number } | null;
        try {
          // A closing worker may still be handed a job (BullMQ fetches once more when its wait is cut): it goes to the next.
          park = stopping.signal.aborted ? { parkMs: HANDED_ON_MS } : await work(job, stopping.signal);
        } catch (error) {
          if (error instanceof UnrecoverableError) throw error;
          onError(error, jobOf(job));
          park = { parkMs: AFTER_FAULT_MS };
        }
        if (park === null) return;
        await job.moveToDelayed(Date.now() + park.parkMs, token);
        throw new DelayedError();
      },
      options,
    );
    worker.on('error', (error) => onError(error, null));
    await worker.waitUntilReady();
    let closing: Promise<void> | null = null;
    const close = async (graceRealMs: number): Promise<void> => {
      // Takes no new jobs from here on; what runs is told to stop.
      const closed = worker.pause(true).then(() => worker.close());
      stopping.abort();
      if ((await settledWithin(closed, graceRealMs)) === undefined) {
        // Left active: its lock runs out and the queue delivers it again.
        closed.catch((error: unknown) => onError(error, null));
        await settledWithin(worker.close(true), FORCED_CLOSE_MS);
      }
      redis.disconnect();
    };
    return {
      close: (graceRealMs) => {
        closing ??= close(graceRealMs);
        return closing;
      },
    };
  }
}
