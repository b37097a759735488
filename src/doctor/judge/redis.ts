/** What is said of a Redis: fit to keep requests, or what to change. Pure: facts in, findings out. */
import { formatDuration, formatSize } from '../../domain/units.ts';
import { type Finding, fault, notChecked, ok, warning } from '../finding.ts';

export interface RedisFacts {
  /** Where it is, without user and password. */
  readonly address: string;
  /** INFO as fields; null: this user may not ask. */
  readonly info: Readonly<Record<string, string>> | null;
  /** CONFIG GET; null: it may not be asked, or the server does not tell. */
  readonly appendfsync: string | null;
  readonly maxmemoryPolicy: string | null;
  /** A unix socket, or an address of this machine only. */
  readonly local: boolean;
  readonly encrypted: boolean;
  readonly password: boolean;
  /** Commands, keys or channels that this user may not use; null: not to be found out, with why. */
  readonly forbidden: readonly string[] | null;
  readonly forbiddenUnknown: string;
  /** Clock of this machine minus that of Redis, and how far off that may be; null: TIME is forbidden. */
  readonly clock: { readonly aheadMs: number; readonly uncertainMs: number } | null;
}

const SUBJECT = 'redis';
const OLDEST = [6, 2] as const;
/**
 * An inventory counts as stale after 10 s by the clock of whoever reads it (src/operations/fleet-view.ts): from half of that on a
 * host may look as if it were gone. Delays and deadlines are off by as much.
 */
export const CLOCK_FAULT_MS = 5_000;
export const CLOCK_WARNING_MS = 1_000;
const FULL = 0.9;

const ACL_REMEDY =
  'grant them: docs/deploy/redis/users.acl lists what is needed (ACL SETUSER, or the aclfile and ACL LOAD)';

export function judgeRedis(facts: RedisFacts): Finding[] {
  return [
    ok('redis.reach', SUBJECT, `${facts.address} answers`),
    version(facts),
    eviction(facts),
    durability(facts),
    writes(facts),
    role(facts),
    transport(facts),
    permissions(facts),
    clock(facts),
  ];
}

const unknown = (id: Finding['id'], what: string): Finding =>
  notChecked(id, SUBJECT, `this user may not ask for ${what}`, 'allow INFO to this user, or look yourself');

function version({ info }: RedisFacts): Finding {
  const text = info?.['valkey_version'] ?? info?.['redis_version'];
  if (text === undefined) return unknown('redis.version', 'its version');
  const [major = 0, minor = 0] = (info?.['redis_version'] ?? text).split('.').map(Number);
  const old = major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]);
  if (old) return fault('redis.version', SUBJECT, `version ${text}`, `upgrade it to ${OLDEST.join('.')} or later`);
  return ok('redis.version', SUBJECT, `version ${text}`);
}

function eviction({ info, maxmemoryPolicy }: RedisFacts): Finding {
  const policy = info?.['maxmemory_policy'] ?? maxmemoryPolicy;
  if (policy === undefined || policy === null) return unknown('redis.eviction', 'its maxmemory-policy');
  if (policy === 'noeviction') return ok('redis.eviction', SUBJECT, 'maxmemory-policy is noeviction');
  const remedy = 'set maxmemory-policy noeviction in redis.conf, and now: CONFIG SET maxmemory-policy noeviction';
  return fault('redis.eviction', SUBJECT, `maxmemory-policy is ${policy}: requests may be thrown away`, remedy);
}

function durability({ info, appendfsync }: RedisFacts): Finding {
  const enabled = info?.['aof_enabled'];
  if (enabled === undefined) return unknown('redis.durability', 'its persistence');
  if (enabled !== '1') {
    const remedy =
      'set appendonly yes and appendfsync always in redis.conf, and now: CONFIG SET appendonly yes (a restart without the first would load the old snapshot)';
    return fault('redis.durability', SUBJECT, 'no append-only file: what was accepted is lost with Redis', remedy);
  }
  if (appendfsync === null) {
    return notChecked(
      'redis.durability',
      SUBJECT,
      'it writes an append-only file; this user may not ask for appendfsync (CONFIG GET)',
      'make sure that it is always, or everysec where a second of requests may be lost',
    );
  }
  if (appendfsync === 'always') return ok('redis.durability', SUBJECT, 'append-only file, appendfsync always');
  const lost = appendfsync === 'no' ? 'what the kernel had not written (tens of seconds)' : 'up to two seconds';
  return warning(
    'redis.durability',
    SUBJECT,
    `appendfsync is ${appendfsync}: with its machine ${lost} of accepted requests are lost`,
    'set appendfsync always: CONFIG SET appendfsync always, and in redis.conf',
  );
}

function writes({ info }: RedisFacts): Finding {
  if (info === null) return unknown('redis.writes', 'its persistence');
  const failed = [
    ['aof_last_write_status', 'the last write to the append-only file failed'],
    ['aof_last_bgrewrite_status', 'the last rewrite of the append-only file failed'],
    ['rdb_last_bgsave_status', 'the last snapshot failed'],
  ].flatMap(([field = '', what = '']) => ((info[field] ?? 'ok') === 'ok' ? [] : [what]));
  if (failed.length > 0) {
    return fault(
      'redis.writes',
      SUBJECT,
      `${failed.join('; ')}: it may refuse writes (MISCONF)`,
      'see its log; its disk is full or its directory may not be written: df -h and ls -ld of what CONFIG GET dir says',
    );
  }
  const [used = 0, most = 0] = [Number(info['used_memory']), Number(info['maxmemory'])];
  if (most > 0 && used > FULL * most) {
    return fault(
      'redis.writes',
      SUBJECT,
      `${formatSize(used)} of maxmemory ${formatSize(most)} are used: it is about to refuse writes (OOM)`,
      'raise maxmemory, or remove what others keep there',
    );
  }
  return ok('redis.writes', SUBJECT, 'no write has failed');
}

function role({ info }: RedisFacts): Finding {
  if (info?.['role'] === undefined) return unknown('redis.role', 'its role');
  if (info['role'] === 'master') {
    const replicas = Number(info['connected_slaves'] ?? 0);
    return ok('redis.role', SUBJECT, `primary, ${replicas === 0 ? 'no replica' : `${replicas} replicas`}`);
  }
  const primary = `${info['master_host'] ?? '?'}:${info['master_port'] ?? '?'}`;
  return fault(
    'redis.role',
    SUBJECT,
    `a replica of ${primary}: it takes no writes`,
    `point REDIS_URL at the primary (${primary}), or at an address that follows it`,
  );
}

function transport({ local, encrypted, password, address }: RedisFacts): Finding {
  if (local) return ok('redis.transport', SUBJECT, 'on this machine only');
  const open = [
    ...(encrypted ? [] : ['not encrypted: passwords and requests can be read and changed on the way']),
    ...(password ? [] : ['no password: whoever reaches its port may empty hosts']),
  ];
  if (open.length === 0) return ok('redis.transport', SUBJECT, 'encrypted, with a password');
  const remedies = [
    ...(encrypted
      ? []
      : ['give it tls-port and certificates (docs/deploy/redis/hostevac.conf) and use rediss:// in REDIS_URL']),
    ...(password ? [] : ['give hostevac a user of its own (docs/deploy/redis/users.acl) and write it into REDIS_URL']),
  ];
  return warning('redis.transport', SUBJECT, `${address} is ${open.join('; ')}`, remedies.join('; '));
}

function permissions({ forbidden, forbiddenUnknown }: RedisFacts): Finding {
  if (forbidden === null) return notChecked('redis.permissions', SUBJECT, forbiddenUnknown, ACL_REMEDY);
  if (forbidden.length === 0) return ok('redis.permissions', SUBJECT, 'this user may do all that is needed');
  return fault('redis.permissions', SUBJECT, `this user may not: ${forbidden.join(', ')}`, ACL_REMEDY);
}

function clock({ clock: measured }: RedisFacts): Finding {
  if (measured === null) return unknown('redis.clock', 'its time (TIME)');
  return judgeClock('redis.clock', SUBJECT, 'Redis', measured);
}

/** Of two clocks; `aheadMs`: this machine's before the other. */
export function judgeClock(
  id: 'redis.clock' | 'workers.clock',
  subject: string,
  whose: string,
  { aheadMs, uncertainMs }: { readonly aheadMs: number; readonly uncertainMs: number },
): Finding {
  const off = Math.abs(aheadMs);
  const sure = Math.max(0, off - uncertainMs);
  const found =
    off <= uncertainMs
      ? `agrees within ${formatDuration(Math.ceil(uncertainMs))}`
      : `this machine is ${formatDuration(Math.round(off))} ${aheadMs > 0 ? 'ahead of' : 'behind'} ${whose}`;
  const remedy = 'keep all clocks right with NTP (chrony, systemd-timesyncd): compare date +%s.%N on both machines';
  if (sure >= CLOCK_FAULT_MS) return fault(id, subject, `${found}: hosts look as if they were gone`, remedy);
  if (sure >= CLOCK_WARNING_MS) return warning(id, subject, `${found}: deadlines and delays are off by it`, remedy);
  return ok(id, subject, found);
}
