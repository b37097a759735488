/**
 * How much of a guest's memory it has touched: what is resident of it in its QEMU. Zero pages that were touched count, too.
 *
 * The whole process's figure is cheap, and holds QEMU's heap and translated code as well: 17 MiB for a guest that had touched
 * 102 of 256 MiB, which is a seventh of its first pass. So for small guests the mappings are looked at one by one, which
 * takes the kernel some milliseconds for each GiB.
 */
import { readFileSync } from 'node:fs';
import { errorCode } from './durable-file.ts';
import { statusField } from './process.ts';

const LOOKED_AT_UP_TO = 2 * 2 ** 30;
/** A guest's memory is one mapping or a few (NUMA, hot-plugged); video memory, firmware and heaps are smaller. */
const LEAST_PART = 0.2;
const MOST_PART = 1.01;

/** undefined: there is no such process (any more). */
export function touchedBytes(pid: number, memoryBytes: number): number | undefined {
  const whole = residentBytes(pid);
  if (whole === undefined) return undefined;
  const mapped = memoryBytes <= LOOKED_AT_UP_TO ? guestBytesIn(readSmaps(pid), memoryBytes) : null;
  return Math.min(memoryBytes, mapped ?? whole);
}

/** Anonymous, shared and huge pages, without the program's own files. Source: proc_pid_status(5), from Linux 4.5. */
function residentBytes(pid: number): number | undefined {
  const parts = ['RssAnon', 'RssShmem', 'HugetlbPages'].map((name) => statusField(`/proc/${pid}/status`, name));
  const known = parts.filter((kib) => kib !== undefined);
  return known.length === 0 ? undefined : known.reduce((sum, kib) => sum + kib, 0) * 1_024;
}

function readSmaps(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/smaps`, 'utf8');
  } catch (error) {
    // Gone, or not ours to see: then the whole process's figure has to do.
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errorCode(error) ?? '')) return '';
    throw error;
  }
}

/** Resident bytes of the mappings that can be a guest's memory; null: they do not come to about all of it. Source: proc_pid_smaps(5). */
export function guestBytesIn(smaps: string, memoryBytes: number): number | null {
  let resident = 0;
  let parts = 0;
  let counts = false;
  for (const line of smaps.split('\n')) {
    const [, from, to, rights] = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) /.exec(line) ?? [];
    if (from !== undefined && to !== undefined && rights !== undefined) {
      const part = (Number.parseInt(to, 16) - Number.parseInt(from, 16)) / memoryBytes;
      // Translated code may be executed; guests' memory is written only.
      counts = rights.startsWith('rw-') && part >= LEAST_PART && part <= MOST_PART && !line.endsWith('[heap]');
      if (counts) parts += part;
      continue;
    }
    if (!counts) continue;
    const [, kib] = /^(?:Rss|Shared_Hugetlb|Private_Hugetlb): +(\d+) kB$/.exec(line) ?? [];
    if (kib !== undefined) resident += Number(kib) * 1_024;
  }
  return parts >= 2 - MOST_PART && parts <= MOST_PART ? resident : null;
}
