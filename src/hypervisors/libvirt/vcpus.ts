/**
 * The vCPU threads of a domain: of the QEMU process on this machine that was started with its uuid. libvirt names them
 * after what they are (`debug-threads=on`). Where several hosts are one machine a migration has two such processes, and the
 * network namespace tells whose each is.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { HostevacError } from '../../domain/errors.ts';
import { parseProcessStat } from '../../runtime/process-identity.ts';
import type { VcpuThreads } from '../../throttling/vcpu-threads.ts';
import type { LibvirtHost } from './host.ts';

/** `CPU 0/KVM`, `CPU 1/TCG`; `ALL CPUs/TCG` is one for all. */
const VCPU = /^(?:CPU (\d+)|ALL CPUs)\/(?:KVM|TCG)\n?$/;

/** null: no QEMU of that uuid is here. Throws `throttleUnavailable` for two of which nobody knows which is the host's. */
export function findVcpus(host: LibvirtHost, uuid: string): VcpuThreads | null {
  const here = namespaceOf(host);
  const found = pids().filter((pid) => isQemuOf(pid, uuid) && (here === null || networkOf(pid) === here));
  const [pid, second] = found;
  if (pid === undefined) return null;
  if (second !== undefined) {
    const which = `processes ${found.join(' and ')} are both QEMU of ${uuid}`;
    throw new HostevacError('throttleUnavailable', `${host.name}: ${which}; say which network namespace is the host's`);
  }
  return threadsOf(pid);
}

/** Of the same process: vCPUs come and go while it runs. null: it has ended. */
export function vcpusOf({ pid, startTicks }: Pick<VcpuThreads, 'pid' | 'startTicks'>): VcpuThreads | null {
  return startOf(pid) === startTicks ? threadsOf(pid) : null;
}

function threadsOf(pid: number): VcpuThreads | null {
  const startTicks = startOf(pid);
  if (startTicks === null) return null;
  const tids = list(`/proc/${pid}/task`)
    .flatMap((tid) => {
      const [named, index] = VCPU.exec(read(`/proc/${pid}/task/${tid}/comm`) ?? '') ?? [];
      return named === undefined ? [] : [{ tid: Number(tid), index: Number(index ?? 0) }];
    })
    .sort((one, other) => one.index - other.index)
    .map(({ tid }) => tid);
  return tids.length === 0 ? null : { pid, startTicks, tids };
}

function isQemuOf(pid: number, uuid: string): boolean {
  const words = (read(`/proc/${pid}/cmdline`) ?? '').split('\0');
  return words[words.indexOf('-uuid') + 1] === uuid && words.some((word) => word.startsWith('guest='));
}

function namespaceOf({ name, networkNamespace }: LibvirtHost): string | null {
  if (networkNamespace === null) return null;
  try {
    return `net:[${statSync(join('/run/netns', networkNamespace)).ino}]`;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HostevacError('throttleUnavailable', `${name}: no network namespace ${networkNamespace}: ${why}`);
  }
}

function networkOf(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return null;
  }
}

function startOf(pid: number): number | null {
  return parseProcessStat(read(`/proc/${pid}/stat`) ?? '')?.startTicks ?? null;
}

function pids(): number[] {
  return list('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** A process may have ended since it was listed. */
function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
