/**
 * What `hostevac doctor` says: one finding per check and subject, each with a verdict and, where something is to be mended,
 * how. The checks stand in one table; the schema is that of `-o json`. Pure: what is found comes from `probe/`, what it
 * means from `judge/`.
 */
import { z } from 'zod';

/** Every check there is, with what is right about it. Ids are part of the contract: add, never rename. */
export const CHECKS = {
  'fleet.file': 'the fleet file can be read and is valid',
  'node.version': 'Node is recent enough',
  'state.directory': 'the state directory can be written and has room',
  'state.journal': "the guard's journal can be written and has room",
  'redis.reach': 'Redis answers',
  'redis.version': 'Redis is recent enough',
  'redis.eviction': 'Redis throws no key away',
  'redis.durability': 'a request that was accepted survives a crash of Redis',
  'redis.writes': 'Redis can write: disk, memory',
  'redis.role': 'this Redis is a primary',
  'redis.transport': 'what goes over a network is encrypted, and needs a password',
  'redis.permissions': 'the user may do what hostevac does',
  'redis.clock': "this machine's clock agrees with that of Redis",
  'clock.kernel': "this machine's clock is kept right",
  'workers.clock': 'the clocks of workers agree with this one',
  'workers.version': 'all workers are of this version',
  'workers.fleet': 'all workers have this fleet file',
  'throttle.rights': 'guests can be throttled by this user',
  'throttle.cgroup': 'there is a cpu controller',
  'throttle.guard': 'the guard sets a quota, and takes it back',
  'qemu.version': 'QEMU migrates without losing memory',
  'qemu.runDir': "the host's run directory can be read and written",
  'libvirt.virsh': 'virsh is there',
  'libvirt.daemon': 'libvirtd answers, and is recent enough',
  'libvirt.peer': "the other hosts' libvirtd can reach it",
  'host.size': 'the host has what the fleet file says',
  'network.name': 'names of hosts are resolved',
  'network.port': 'migrations can connect',
  'network.bandwidth': 'the network carries what the fleet file says',
} as const;
export type CheckId = keyof typeof CHECKS;

export const verdicts = ['ok', 'warning', 'fault', 'notChecked'] as const;
export type Verdict = (typeof verdicts)[number];

const findingSchema = z.strictObject({
  /** Of `CHECKS`. */
  id: z.string(),
  /** What it is about: `fleet`, `this machine`, `redis`, a worker, a host, `a -> b`. */
  subject: z.string(),
  verdict: z.enum(verdicts),
  /** What was found, in words, with values. */
  found: z.string(),
  /** What to do; null where nothing is to be done. */
  remedy: z.string().nullable(),
});

/** What `hostevac doctor -o json` prints. */
export const reportSchema = z.strictObject({
  /** The worst there is; what was not checked does not count. */
  verdict: z.enum(['ok', 'warning', 'fault']),
  /** The hosts that were looked at; empty where there is no fleet file. */
  hosts: z.array(z.string()),
  findings: z.array(findingSchema),
});
export type Report = z.infer<typeof reportSchema>;
export interface Finding extends z.infer<typeof findingSchema> {
  readonly id: CheckId;
}

export function ok(id: CheckId, subject: string, found: string): Finding {
  return { id, subject, verdict: 'ok', found, remedy: null };
}
export function warning(id: CheckId, subject: string, found: string, remedy: string): Finding {
  return { id, subject, verdict: 'warning', found, remedy };
}
export function fault(id: CheckId, subject: string, found: string, remedy: string): Finding {
  return { id, subject, verdict: 'fault', found, remedy };
}
/** `found` says why not. */
export function notChecked(id: CheckId, subject: string, found: string, remedy: string | null = null): Finding {
  return { id, subject, verdict: 'notChecked', found, remedy };
}

export function reportOf(hosts: readonly string[], findings: readonly Finding[]): Report {
  const has = (verdict: Verdict): boolean => findings.some((finding) => finding.verdict === verdict);
  const verdict = has('fault') ? 'fault' : has('warning') ? 'warning' : 'ok';
  return { verdict, hosts: [...hosts], findings: [...findings] };
}
