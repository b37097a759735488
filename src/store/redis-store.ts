/**
 * Cells, wake-ups and event logs in Redis. Keys: `<prefix>:cell:<key>`, `<prefix>:versions`, `<prefix>:events:<operation>`,
 * `<prefix>:events`; channels: `<prefix>:wake:<topic>`. The prefix holds a hash tag, so all of them live in one cluster slot.
 */
import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { settledWithin } from '../clock/abortable-sleep.ts';
import type { Clock } from '../clock/clock.ts';
import { RealClock } from '../clock/real-clock.ts';
import { eventSchema, type OperationEvent } from '../domain/operation.ts';
import type { CellStore, GuardedText, VersionedText, WakeupListener, Wakeups, Written } from './cell.ts';
import {
  EVENTS_EXPIRE_MS,
  EVENTS_KEPT,
  type EventLog,
  eventsTopic,
  FLEET_EVENTS_KEPT,
  FLEET_EVENTS_TOPIC,
  type StoredEvent,
} from './event-log.ts';
import { isRedisAway, RedisScript, reachable } from './redis-script.ts';
import { WakeupListeners } from './wakeup-listeners.ts';

/**
 * Versions come from one counter per prefix: a cell that was deleted or expired and is written again never has a version
 * that somebody still holds. It goes with the writers' clocks where those are ahead, so that also what a replica never
 * heard of is no version again after a failover to it. `w` keeps the ids of the last writes: when a connection breaks between write and reply,
 * ioredis sends the script again, and that must not look like a conflict (the caller would apply its change twice).
 * A deleted cell keeps only `w`, for a minute.
 */
const COMPARE_AND_SET = new RedisScript(`
-- KEYS: cell, version counter
-- ARGV: expected version, write id, '1' and text or '0', expiry ms or '', channel or '', writer's clock (us), generation or ''
local written = redis.call('HGET', KEYS[1], 'w') or ''
if string.find(written, ARGV[2], 1, true) then return '' end
if (redis.call('HGET', KEYS[1], 'v') or '0') ~= ARGV[1] then return false end
if ARGV[8] ~= '' and string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') ~= ARGV[8] then return false end
local version = '0'
written = string.sub(ARGV[2] .. written, 1, 8 * #ARGV[2])
if ARGV[3] == '1' then
  local last = redis.call('GET', KEYS[2]) or '0'
  if tonumber(last) < tonumber(ARGV[7]) then redis.call('SET', KEYS[2], ARGV[7]) else redis.call('INCR', KEYS[2]) end
  version = redis.call('GET', KEYS[2])
  redis.call('HSET', KEYS[1], 'v', version, 't', ARGV[4], 'w', written)
  if ARGV[5] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
else
  redis.call('HDEL', KEYS[1], 'v', 't')
  redis.call('HSET', KEYS[1], 'w', written)
  redis.call('PEXPIRE', KEYS[1], 60000)
end
if ARGV[6] ~= '' then redis.call('PUBLISH', ARGV[6], '') end
return version
`);

/** One reply, so that value and generation are of one store; the text only where it is another one than is known. */
const READ_GUARDED = new RedisScript(`
-- KEYS: cell
-- ARGV: the version that is known, or '', and the generation of which it is
local version = redis.call('HGET', KEYS[1], 'v') or '0'
local generation = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
if version == ARGV[1] and generation == ARGV[2] then return {version, generation} end
return {version, generation, redis.call('HGET', KEYS[1], 't')}
`);

export class RedisCellStore implements CellStore {
  readonly #redis: Redis;
  readonly #prefix: string;
  /** What a guarded cell was when it was read last: in one generation a version never returns with another text. */
  readonly #known = new Map<string, GuardedText>();

  constructor(redis: Redis, prefix: string) {
    this.#redis = redis;
    this.#prefix = prefix;
  }

  async read(key: string): Promise<VersionedText> {
    const [version, text] = await reachable(this.#redis, this.#redis.hmget(this.#cellKey(key), 'v', 't'));
    return versionedText(version, text);
  }

  async readMany(keys: readonly string[]): Promise<VersionedText[]> {
    if (keys.length === 0) return [];
    const pipeline = this.#redis.pipeline();
    for (const key of keys) pipeline.hmget(this.#cellKey(key), 'v', 't');
    const replies = await reachable(this.#redis, pipelineValues(pipeline));
    return replies.map((reply) =>
      Array.isArray(reply) ? versionedText(reply[0], reply[1]) : versionedText(null, null),
    );
  }

  async readGuarded(key: string): Promise<GuardedText> {
    const known = this.#known.get(key);
    const args = known === undefined ? ['', ''] : [String(known.version), known.generation];
    const reply = await READ_GUARDED.run(this.#redis, [this.#cellKey(key)], args);
    const [version, generation, ...text]: unknown[] = Array.isArray(reply) ? reply : [];
    if (known !== undefined && text.length === 0 && version === String(known.version)) return known;
    const read = { ...versionedText(version, text[0]), generation: String(generation) };
    this.#known.set(key, read);
    return read;
  }

  async compareAndSet(
    key: string,
    version: number,
    text: string | null,
    options: { readonly topic?: string; readonly expireMs?: number; readonly generation?: string } = {},
  ): Promise<Written | null> {
    const written = await COMPARE_AND_SET.run(
      this.#redis,
      [this.#cellKey(key), `${this.#prefix}:versions`],
      [
        version,
        `${randomBytes(9).toString('base64url')},`,
        text === null ? '0' : '1',
        text ?? '',
        // PEXPIRE with 0 or a fraction is refused or deletes at once.
        options.expireMs === undefined ? '' : Math.max(1, Math.round(options.expireMs)),
        options.topic === undefined ? '' : wakeChannel(this.#prefix, options.topic),
        Date.now() * 1_000,
        options.generation ?? '',
      ],
    );
    if (typeof written !== 'string') return null;
    return { version: written === '' ? null : Number(written) };
  }

  #cellKey(key: string): string {
    return `${this.#prefix}:cell:${key}`;
  }
}

function versionedText(version: unknown, text: unknown): VersionedText {
  if (typeof version !== 'string' || typeof text !== 'string') return { version: 0, text: null };
  return { version: Number(version), text };
}

/** The replies in order; throws the first error among them. */
async function pipelineValues(pipeline: ReturnType<Redis['pipeline']>): Promise<unknown[]> {
  const replies = (await pipeline.exec()) ?? [];
  return replies.map(([error, value]) => {
    if (error !== null) throw error;
    return value;
  });
}

function wakeChannel(prefix: string, topic: string): string {
  return `${prefix}:wake:${topic}`;
}

/** How long `listen` and `wake` wait for a Redis that does not answer; later subscriptions still take effect. */
const WAKEUP_PATIENCE_MS = 2_000;

/** Pub/sub over one subscriber connection per process, opened at the first `listen`. */
export class RedisWakeups implements Wakeups {
  readonly #redis: Redis;
  readonly #openSubscriber: () => Promise<Redis>;
  readonly #prefix: string;
  readonly #listeners: WakeupListeners;
  #subscriber: Promise<Redis> | null = null;

  /** `openSubscriber` gives a connection of its own (role `subscriber`); `close()` ends it. */
  constructor(redis: Redis, openSubscriber: () => Promise<Redis>, prefix: string, clock: Clock = new RealClock()) {
    this.#redis = redis;
    this.#openSubscriber = openSubscriber;
    this.#prefix = prefix;
    this.#listeners = new WakeupListeners(clock);
  }

  /** A wake that Redis did not take is dropped: listeners look from time to time anyway. */
  async wake(topic: string): Promise<void> {
    try {
      await settledWithin(this.#redis.publish(wakeChannel(this.#prefix, topic), ''), WAKEUP_PATIENCE_MS);
    } catch (error) {
      if (!isRedisAway(error)) throw error;
    }
  }

  async listen(topic: string): Promise<WakeupListener> {
    const subscriber = await this.#connect();
    const channel = wakeChannel(this.#prefix, topic);
    const listener = this.#listeners.add(topic, async (last) => {
      // Commands of one connection keep their order: a listener that comes now subscribes behind this.
      if (last) subscriber.unsubscribe(channel).catch(() => undefined);
    });
    // Sent for every listener, not only the first: its reply proves that the topic is heard from here on.
    const subscribed = subscriber.subscribe(channel);
    try {
      await settledWithin(subscribed, WAKEUP_PATIENCE_MS);
    } catch (error) {
      if (!isRedisAway(error)) {
        await listener.close();
        throw error;
      }
    }
    return listener;
  }

  /** Ends the subscriber connection; listeners still there hear nothing more. */
  async close(): Promise<void> {
    const opening = this.#subscriber;
    this.#subscriber = null;
    // One that is still trying to connect is not waited for; it ends as soon as it could be used.
    const ended = opening?.then((subscriber) => subscriber.disconnect()).catch(() => undefined);
    await settledWithin(ended ?? Promise.resolve(), 100);
  }

  #connect(): Promise<Redis> {
    this.#subscriber ??= this.#open().catch((error: unknown) => {
      this.#subscriber = null;
      throw error;
    });
    return this.#subscriber;
  }

  async #open(): Promise<Redis> {
    const subscriber = await this.#openSubscriber();
    const start = wakeChannel(this.#prefix, '');
    subscriber.on('message', (channel: string) => {
      if (channel.startsWith(start)) this.#listeners.wake(channel.slice(start.length));
    });
    // After a reconnect ioredis has subscribed again, but what was published in between is gone.
    subscriber.on('ready', () => this.#listeners.wakeAll());
    return subscriber;
  }
}

/** Most events one `read` returns; the caller reads on behind the last. */
const EVENTS_PER_READ = 1_000;
/** A wake-up can get lost with a connection; look this often without one. */
const EVENTS_LOOK_MS = 1_000;

interface Wanted {
  readonly after: string;
  readonly waitRealMs: number;
  readonly signal: AbortSignal | undefined;
  readonly most: number;
}

/** null: whoever wrote it was no hostevac, or a later one with other events. It must not hold up the others. */
function eventOf(streamId: string, text: string | undefined): StoredEvent | null {
  try {
    return { ...eventSchema.parse(JSON.parse(text ?? 'null')), streamId };
  } catch {
    return null;
  }
}

/** At least once: an event whose reply got lost with the connection may be there twice. */
export class RedisEventLog implements EventLog {
  readonly #redis: Redis;
  readonly #wakeups: Wakeups;
  readonly #prefix: string;
  readonly #clock: Clock;

  constructor(redis: Redis, wakeups: Wakeups, prefix: string, clock: Clock = new RealClock()) {
    this.#redis = redis;
    this.#wakeups = wakeups;
    this.#prefix = prefix;
    this.#clock = clock;
  }

  async append(event: OperationEvent): Promise<void> {
    const text = JSON.stringify(event);
    const pipeline = this.#redis.pipeline();
    const own = eventsTopic(event.operationId);
    for (const [topic, kept] of [[own, EVENTS_KEPT] as const, [FLEET_EVENTS_TOPIC, FLEET_EVENTS_KEPT] as const]) {
      const key = this.#streamKey(topic);
      pipeline.xadd(key, 'MAXLEN', '~', kept, '*', 'e', text);
      pipeline.pexpire(key, EVENTS_EXPIRE_MS);
      pipeline.publish(wakeChannel(this.#prefix, topic), '');
    }
    await reachable(this.#redis, pipelineValues(pipeline));
  }

  /** Waits on the shared wake-ups: no blocking command, so no connection per watcher. */
  read(
    operationId: string,
    after: string,
    waitRealMs: number,
    signal?: AbortSignal,
    most = EVENTS_PER_READ,
  ): Promise<StoredEvent[]> {
    return this.#read(eventsTopic(operationId), { after, waitRealMs, signal, most });
  }

  readFleet(after: string, waitRealMs: number, signal?: AbortSignal, most = EVENTS_PER_READ): Promise<StoredEvent[]> {
    return this.#read(FLEET_EVENTS_TOPIC, { after, waitRealMs, signal, most });
  }

  async lastOfFleet(): Promise<string> {
    const last = this.#redis.xrevrange(this.#streamKey(FLEET_EVENTS_TOPIC), '+', '-', 'COUNT', 1);
    return (await reachable(this.#redis, last))[0]?.[0] ?? '0';
  }

  async firstOfFleet(after: string): Promise<string | null> {
    const first = this.#redis.xrange(this.#streamKey(FLEET_EVENTS_TOPIC), `(${after}`, '+', 'COUNT', 1);
    return (await reachable(this.#redis, first))[0]?.[0] ?? null;
  }

  async #read(topic: string, wanted: Wanted): Promise<StoredEvent[]> {
    const { waitRealMs, signal } = wanted;
    const there = await this.#behind(topic, wanted);
    const aborted = (): boolean => signal?.aborted === true;
    if (there.length > 0 || waitRealMs <= 0 || aborted()) return there;
    const untilMs = this.#clock.monotonic() + waitRealMs;
    const listener = await unlessAborted(this.#wakeups.listen(topic), signal, (late) => late.close());
    if (listener === undefined) return [];
    try {
      for (;;) {
        const events = await this.#behind(topic, wanted);
        const leftMs = untilMs - this.#clock.monotonic();
        if (events.length > 0 || leftMs <= 0 || aborted()) return events;
        await listener.next(Math.min(leftMs, EVENTS_LOOK_MS), signal);
      }
    } finally {
      await listener.close();
    }
  }

  async #behind(topic: string, { after, signal, most }: Wanted): Promise<StoredEvent[]> {
    for (let from = after; ; ) {
      const range = this.#redis.xrange(this.#streamKey(topic), `(${from}`, '+', 'COUNT', most);
      const entries = (await unlessAborted(reachable(this.#redis, range), signal)) ?? [];
      const events = entries.flatMap(([streamId, fields]) => eventOf(streamId, fields[1]) ?? []);
      const last = entries.at(-1);
      // A page of nothing but what cannot be read: what is behind it is looked at.
      if (events.length > 0 || last === undefined || entries.length < most) return events;
      from = last[0];
    }
  }

  /** A stream is called as its topic. */
  #streamKey(topic: string): string {
    return `${this.#prefix}:${topic}`;
  }
}

/** The promise's value, or `undefined` as soon as the signal aborts; then `dispose` gets a value that comes too late. */
async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  dispose: (late: T) => unknown = () => undefined,
): Promise<T | undefined> {
  if (signal === undefined) return promise;
  let abort: () => void = () => undefined;
  const aborted = new Promise<undefined>((resolve) => {
    abort = () => resolve(undefined);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
  });
  try {
    const first = await Promise.race([promise.then((value) => ({ value })), aborted]);
    if (first === undefined) promise.then(dispose).catch(() => undefined);
    return first?.value;
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
