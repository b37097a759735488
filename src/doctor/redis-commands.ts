/**
 * The commands of Redis that hostevac and BullMQ send, those within scripts too: what a user of Redis must be allowed. Found by
 * running the tests on a Redis that counted (INFO commandstats) and by reading the scripts; docs/deploy/redis/users.acl
 * grants these and no others, and test/deploy runs a fleet as that user. Pure.
 */

/** A form of the command that would be valid, on a key of the fleet's. Never carried out: it is queued and discarded. */
type Form = (key: string) => readonly string[];

const onKey =
  (...rest: string[]): Form =>
  (key) => [key, ...rest];
const twoKeys: Form = (key) => [key, key];
const bare: Form = () => [];

/** Commands that can stand in MULTI. */
export const QUEUED_COMMANDS: Readonly<Record<string, Form>> = {
  bzpopmin: onKey('1'),
  del: onKey(),
  eval: (key) => ['return 0', '1', key],
  evalsha: (key) => ['0'.repeat(40), '1', key],
  exists: onKey(),
  expire: onKey('1'),
  get: onKey(),
  hdel: onKey('f'),
  hexists: onKey('f'),
  hget: onKey('f'),
  hgetall: onKey(),
  hincrby: onKey('f', '1'),
  hmget: onKey('f'),
  hmset: onKey('f', 'v'),
  hset: onKey('f', 'v'),
  incr: onKey(),
  info: bare,
  lindex: onKey('0'),
  llen: onKey(),
  lpop: onKey(),
  lpos: onKey('v'),
  lpush: onKey('v'),
  lrange: onKey('0', '0'),
  lrem: onKey('0', 'v'),
  ltrim: onKey('0', '0'),
  persist: onKey(),
  pexpire: onKey('1'),
  ping: bare,
  pttl: onKey(),
  rpop: onKey(),
  rpoplpush: twoKeys,
  rpush: onKey('v'),
  sadd: onKey('v'),
  scard: onKey(),
  set: onKey('v'),
  smembers: onKey(),
  srem: onKey('v'),
  time: bare,
  xadd: onKey('*', 'f', 'v'),
  xrange: onKey('-', '+'),
  xrevrange: onKey('+', '-'),
  xtrim: onKey('MAXLEN', '0'),
  zadd: onKey('1', 'm'),
  zcard: onKey(),
  zcount: onKey('0', '1'),
  zpopmin: onKey(),
  zrange: onKey('0', '0'),
  zrangebyscore: onKey('0', '1'),
  zrem: onKey('m'),
  zremrangebyrank: onKey('0', '0'),
  zremrangebyscore: onKey('0', '1'),
  zrevrange: onKey('0', '0'),
  zrevrangebyscore: onKey('1', '0'),
  zscore: onKey('m'),
};

/** Those that cannot; connections need them. `client|setname` is BullMQ's. `multi` and `discard` are doctor's own. */
export const OTHER_COMMANDS: readonly string[] = [
  'client|setname',
  'discard',
  'multi',
  'publish',
  'subscribe',
  'unsubscribe',
];
