/**
 * The simulation's log in Redis, shared by all processes of a fleet. Keys, all under the fleet's prefix and its hash tag:
 *
 *   <prefix>:sim:origin    wall-clock ms at which the fleet's time was 0; set once
 *   <prefix>:sim:log       list of `<atMs>|<command>`; its first entry has index base + 1
 *   <prefix>:sim:meta      hash: base, lastAtMs, fleet (hash of the fleet that it was made for)
 *   <prefix>:sim:snapshot  state right after entry base
 *   <prefix>:sim:sent:<id> index of a command that was just sent, for a minute
 *
 * Redis gives the time: in the script that appends or reads, so that entries are in the order of their times and no
 * reader sees a future that a later entry contradicts, whatever the clocks of the processes say.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import { RedisScript } from '../../store/redis-script.ts';
import type { LogRead, SimulationLog } from './log.ts';
import {
  type Command,
  commandSchema,
  MODEL_VERSION,
  type SimulatedFleetSpec,
  type State,
  stateSchema,
} from './model.ts';
import { initialState } from './step.ts';

const ORIGIN = `
local function wallMs()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
end
local function origin(key)
  local at = redis.call('GET', key)
  if not at then
    at = string.format('%d', math.floor(wallMs()))
    redis.call('SET', key, at)
  end
  return tonumber(at)
end
`;

const GET_ORIGIN = new RedisScript(`${ORIGIN}
return string.format('%d', origin(KEYS[1]))
`);

/**
 * One script for both, so that an appender learns in the same step all that came before its command. The id makes a
 * command that was sent twice (ioredis sends again when a connection breaks before the reply) count once.
 */
const EXCHANGE = new RedisScript(`${ORIGIN}
-- KEYS: origin, log, meta, snapshot, sent. ARGV: fleet hash, speed, reader's index, command or ''
local meta = redis.call('HMGET', KEYS[3], 'base', 'lastAtMs', 'fleet')
local base = tonumber(meta[1] or '0')
if not meta[3] then redis.call('HSET', KEYS[3], 'fleet', ARGV[1])
elseif meta[3] ~= ARGV[1] then return {'mismatch'} end
if tonumber(ARGV[3]) > base + redis.call('LLEN', KEYS[2]) then return {'gone'} end
local nowMs = math.max(tonumber(meta[2] or '0'), (wallMs() - origin(KEYS[1])) * tonumber(ARGV[2]))
local now = string.format('%.3f', nowMs)
local index = 0
if ARGV[4] ~= '' then
  index = tonumber(redis.call('GET', KEYS[5]) or '0')
  if index == 0 then
    index = base + redis.call('RPUSH', KEYS[2], now .. '|' .. ARGV[4])
    redis.call('HSET', KEYS[3], 'lastAtMs', now)
    redis.call('SET', KEYS[5], index, 'PX', 60000)
  end
end
local since = tonumber(ARGV[3])
local snapshot = ''
if since < base then
  snapshot = redis.call('GET', KEYS[4])
  since = base
end
return {'ok', now, index, since, redis.call('LLEN', KEYS[2]), snapshot, redis.call('LRANGE', KEYS[2], since - base, -1)}
`);

/** Only where nobody else has compacted since, and never beyond the log's end. */
const COMPACT = new RedisScript(`
-- KEYS: log, meta, snapshot. ARGV: index of the snapshot, snapshot
local base = tonumber(redis.call('HGET', KEYS[2], 'base') or '0')
local folded = tonumber(ARGV[1]) - base
if folded <= 0 or folded > redis.call('LLEN', KEYS[1]) then return 0 end
redis.call('SET', KEYS[3], ARGV[2])
redis.call('LTRIM', KEYS[1], folded, -1)
redis.call('HSET', KEYS[2], 'base', ARGV[1])
return 1
`);

const replySchema = z.tuple([
  z.literal('ok'),
  z.string().transform(Number),
  z.number(),
  z.number(),
  z.number(),
  z.string(),
  z.array(z.string()),
]);

export interface RedisSimulationLogOptions {
  readonly redis: Redis;
  /** The fleet's prefix, with its hash tag: `{hostevac:default}`. */
  readonly prefix: string;
  readonly fleet: SimulatedFleetSpec;
}

export class RedisSimulationLog implements SimulationLog {
  readonly #redis: Redis;
  readonly #prefix: string;
  readonly #fleetHash: string;
  readonly #speed: number;

  constructor({ redis, prefix, fleet }: RedisSimulationLogOptions) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#fleetHash = hashOf(fleet);
    this.#speed = fleet.simulation.speed;
  }

  async append(command: Command, since: number): Promise<LogRead & { readonly index: number }> {
    return this.#exchange(JSON.stringify(command), since);
  }

  async readSince(index: number): Promise<LogRead> {
    return this.#exchange('', index);
  }

  async compact(state: State): Promise<void> {
    const keys = [this.#key('log'), this.#key('meta'), this.#key('snapshot')];
    await COMPACT.run(this.#redis, keys, [state.index, JSON.stringify(state)]);
  }

  async #exchange(command: string, since: number): Promise<LogRead & { readonly index: number }> {
    const keys = ['origin', 'log', 'meta', 'snapshot', `sent:${randomUUID()}`].map((name) => this.#key(name));
    const reply = await EXCHANGE.run(this.#redis, keys, [this.#fleetHash, this.#speed, since, command]);
    if (Array.isArray(reply) && reply[0] === 'mismatch') throw this.#mismatch();
    if (Array.isArray(reply) && reply[0] === 'gone') throw this.#gone();
    const [, nowMs, index, from, length, snapshot, lines] = replySchema.parse(reply);
    return {
      nowMs,
      index,
      length,
      snapshot: snapshot === '' ? null : stateSchema.parse(JSON.parse(snapshot)),
      entries: lines.map((line, at) => {
        const bar = line.indexOf('|');
        return {
          index: from + at + 1,
          atMs: Number(line.slice(0, bar)),
          command: commandSchema.parse(JSON.parse(line.slice(bar + 1))),
        };
      }),
    };
  }

  #key(name: string): string {
    return `${this.#prefix}:sim:${name}`;
  }

  /** The log ends before what this process has read of it. */
  #gone(): HostevacError {
    return new HostevacError(
      'fleetMismatch',
      `the simulation that this process runs was deleted from Redis (${this.#prefix}:sim:*); start the process again`,
    );
  }

  #mismatch(): HostevacError {
    return new HostevacError(
      'fleetMismatch',
      `Redis holds a running simulation of another fleet than this fleet file's hosts, links and simulation; go back to the ` +
        `file that it was started with, use another fleet name or state directory, or delete its keys (${this.#prefix}:sim:*)`,
    );
  }
}

/** Everything that decides what the log means. */
function hashOf(fleet: SimulatedFleetSpec): string {
  const meaning = JSON.stringify([MODEL_VERSION, fleet.simulation.speed, initialState(fleet)]);
  return createHash('sha256').update(meaning).digest('hex');
}

/** Wall-clock ms at which the fleet's time is 0: what all its processes give to their clocks. Set at the first call of all. */
export async function simulationOrigin(redis: Redis, prefix: string): Promise<number> {
  return z
    .string()
    .transform(Number)
    .parse(await GET_ORIGIN.run(redis, [`${prefix}:sim:origin`], []));
}
