/**
 * What virsh prints, as values: statistics of domains and of their jobs. Pure.
 *
 * Numbers of states and reasons: libvirt's include/libvirt/libvirt-domain.h, virDomainState and its reasons; job types and
 * operations there, too.
 */

/** As far as it matters here. */
export type DomainState = 'running' | 'paused' | 'inShutdown' | 'shutOff' | 'crashed' | 'suspended' | 'unknown';

export interface DomainStats {
  readonly state: DomainState;
  /** Its CPUs stand still for a migration: at its source at the end of one, at its destination before that end. */
  readonly pausedByMigration: boolean;
  /** Its QEMU is being started. */
  readonly startsUp: boolean;
  /** `broken`: the connection between its ends is. */
  readonly postCopy: 'no' | 'active' | 'broken';
  readonly maxMemoryBytes: number;
  /** Of its QEMU process; null: libvirt does not say. */
  readonly residentBytes: number | null;
  readonly cpus: number;
  /** All its vCPUs' time; null: it does not run. */
  readonly cpuMs: number | null;
}

const STATES: readonly DomainState[] = [
  'unknown',
  'running',
  'running',
  'paused',
  'inShutdown',
  'shutOff',
  'crashed',
  'suspended',
];
const PAUSED_MIGRATION = 2;
const PAUSED_STARTING_UP = 11;
const PAUSED_POSTCOPY = { active: 12, broken: 13 } as const;
const RUNNING_POSTCOPY = { active: 10, broken: 11 } as const;

/** `Domain: 'name'` and its fields, one block for each. A name holds no line end: libvirt refuses those. */
export function domainStats(out: string): ReadonlyMap<string, DomainStats> {
  const found = new Map<string, DomainStats>();
  for (const block of out.split(/^Domain: '/m).slice(1)) {
    const end = block.indexOf("'\n");
    const name = end < 0 ? block.replace(/'\s*$/, '') : block.slice(0, end);
    found.set(name, statsOf(fieldsOf(end < 0 ? '' : block.slice(end + 2), '=')));
  }
  return found;
}

function statsOf(fields: ReadonlyMap<string, string>): DomainStats {
  const number = (key: string): number | null => numberOf(fields.get(key));
  const state = STATES[number('state.state') ?? 0] ?? 'unknown';
  const reason = number('state.reason');
  const cpus = number('vcpu.current') ?? number('vcpu.maximum') ?? 0;
  const times = [...fields].flatMap(([key, value]) => (/^vcpu\.\d+\.time$/.test(key) ? [numberOf(value) ?? 0] : []));
  const resident = number('balloon.rss');
  return {
    state,
    pausedByMigration: state === 'paused' && reason === PAUSED_MIGRATION,
    startsUp: state === 'paused' && reason === PAUSED_STARTING_UP,
    postCopy: postCopyOf(state, reason),
    maxMemoryBytes: (number('balloon.maximum') ?? 0) * 1_024,
    residentBytes: resident === null ? null : resident * 1_024,
    cpus,
    cpuMs: times.length === 0 ? null : times.reduce((sum, ns) => sum + ns, 0) / 1e6,
  };
}

function postCopyOf(state: DomainState, reason: number | null): DomainStats['postCopy'] {
  const reasons = state === 'paused' ? PAUSED_POSTCOPY : state === 'running' ? RUNNING_POSTCOPY : null;
  if (reasons === null) return 'no';
  return reason === reasons.active ? 'active' : reason === reasons.broken ? 'broken' : 'no';
}

export interface JobStats {
  /**
   * `outgoing`: a migration out of there. `ending`: one that has failed or was ended, and whose destination libvirtd is still
   * telling, half a minute where the link is silent. `other`: something else that a migration has to wait for.
   */
  readonly kind: 'none' | 'outgoing' | 'completed' | 'ending' | 'other';
  readonly elapsedMs: number;
  /** Real when it has completed, else expected; null: not told. */
  readonly downtimeMs: number | null;
  readonly totalBytes: number;
  readonly processedBytes: number;
  readonly remainingBytes: number;
  readonly bytesPerSec: number;
  readonly dirtiedBytesPerSec: number;
  readonly pass: number;
}

const JOB_COMPLETED = 3;
const JOB_FAILED = 4;
const JOB_CANCELLED = 5;
const OPERATION_MIGRATION_OUT = 5;
const PAGE_BYTES = 4_096;

/** `domjobinfo --rawstats`, and what `event` prints of a job that has completed. null: it printed none. */
export function jobStats(out: string): JobStats | null {
  const fields = fieldsOf(out, ':');
  const number = (key: string): number => numberOf(fields.get(key)) ?? 0;
  if (!fields.has('Job type') && !fields.has('operation')) return null;
  const type = numberOf(fields.get('Job type'));
  const kind = kindOf(type, number('operation'));
  return {
    kind,
    elapsedMs: number('time_elapsed'),
    downtimeMs: numberOf(fields.get('downtime')),
    totalBytes: number('memory_total'),
    processedBytes: number('memory_processed'),
    remainingBytes: number('memory_remaining'),
    bytesPerSec: number('memory_bps'),
    dirtiedBytesPerSec: number('memory_dirty_rate') * (numberOf(fields.get('memory_page_size')) ?? PAGE_BYTES),
    pass: Math.max(1, number('memory_iteration')),
  };
}

/** An event of a job's end carries no type. */
function kindOf(type: number | null, operation: number): JobStats['kind'] {
  if (type === 0) return 'none';
  if (type === null || type === JOB_COMPLETED) return 'completed';
  if (operation !== OPERATION_MIGRATION_OUT) return 'other';
  return type === JOB_FAILED || type === JOB_CANCELLED ? 'ending' : 'outgoing';
}

/** `list --all --uuid --name`: name to uuid. */
export function domainList(out: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const line of out.split('\n')) {
    const [, uuid, name] = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (.*)$/.exec(line) ?? [];
    if (uuid !== undefined && name !== undefined) found.set(name, uuid);
  }
  return found;
}

export function uuidList(out: string): ReadonlySet<string> {
  return new Set(out.split('\n').filter((line) => line !== ''));
}

/** What `domstats --dirtyrate` says. */
export interface DirtyRate {
  readonly state: 'unstarted' | 'measuring' | 'measured';
  readonly startedAtSec: number;
  readonly periodSec: number;
  /** Rounded down. */
  readonly mibPerSec: number;
}

export function dirtyRate(out: string): DirtyRate | null {
  const fields = fieldsOf(out, '=');
  const number = (key: string): number => numberOf(fields.get(`dirtyrate.${key}`)) ?? 0;
  const state = (['unstarted', 'measuring', 'measured'] as const)[number('calc_status')];
  if (state === undefined || !fields.has('dirtyrate.calc_status')) return null;
  return {
    state,
    startedAtSec: number('calc_start_time'),
    periodSec: number('calc_period'),
    mibPerSec: number('megabytes_per_second'),
  };
}

function fieldsOf(out: string, separator: '=' | ':'): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of out.split('\n')) {
    const at = line.indexOf(separator);
    if (at > 0) fields.set(line.slice(0, at).trim(), line.slice(at + 1).trim());
  }
  return fields;
}

function numberOf(text: string | undefined): number | null {
  if (text === undefined || !/^-?\d+(?:\.\d+)?$/.test(text)) return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}
