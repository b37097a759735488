/** What of a QEMU's memory is the guest's, from its mappings. */
import { describe, expect, test } from 'vitest';
import { guestBytesIn, touchedBytes } from '../../../src/hypervisors/qemu/resident.ts';

const MIB = 2 ** 20;

/** A mapping as the kernel writes it (Linux 6.18), without the lines that do not matter. */
function mapping(
  range: string,
  rights: string,
  rssKib: number,
  more: { path?: string; hugeKib?: number } = {},
): string {
  return [
    `${range} ${rights} 00000000 00:00 0 ${more.path ?? ''}`.trimEnd(),
    'KernelPageSize:        4 kB',
    `Rss:             ${rssKib} kB`,
    `Pss:             ${rssKib} kB`,
    'Shared_Hugetlb:        0 kB',
    `Private_Hugetlb:       ${more.hugeKib ?? 0} kB`,
    'VmFlags: rd wr mr mw me ac hg mg',
  ].join('\n');
}

/** Of a guest with 256 MiB. */
const PROGRAM = mapping('55e71a25a000-55e71a6f1000', 'r--p', 4_572, { path: '/usr/bin/qemu-system-x86_64' });
const CODE = mapping('7f10b8000000-7f10c8000000', 'rwxp', 2_048);
const VIDEO = mapping('7f10b6a00000-7f10b7a00000', 'rw-p', 2_048);
const HEAP = mapping('55e7594e5000-55e76a53c000', 'rw-p', 5_972, { path: '[heap]' });
const RAM = mapping('7f109fe00000-7f10afe00000', 'rw-p', 104_448);

describe("what of its mappings is the guest's", () => {
  test('is the one of its size that is not executed: neither code nor heap nor video memory', () => {
    expect(guestBytesIn([PROGRAM, HEAP, RAM, VIDEO, CODE].join('\n'), 256 * MIB)).toBe(104_448 * 1_024);
  });

  test('may be huge pages, which count by themselves, and shared', () => {
    const huge = mapping('7f109fe00000-7f10afe00000', 'rw-s', 0, { path: '/dev/hugepages/ram', hugeKib: 98_304 });
    expect(guestBytesIn([CODE, huge].join('\n'), 256 * MIB)).toBe(96 * MIB);
  });

  test('may be several', () => {
    const [one, other] = [
      mapping('7f1000000000-7f1008000000', 'rw-p', 1_024),
      mapping('7f1010000000-7f1018000000', 'rw-p', 2_048),
    ];
    expect(guestBytesIn([one, HEAP, other].join('\n'), 256 * MIB)).toBe(3 * MIB);
  });

  test('is not known where there is none of about its size, or nobody may look', () => {
    expect(guestBytesIn([PROGRAM, VIDEO].join('\n'), 256 * MIB)).toBeNull();
    expect(guestBytesIn('', 256 * MIB)).toBeNull();
  });
});

test('of a process without such a mapping it is all that is resident, and no more than the guest has', () => {
  expect(touchedBytes(process.pid, 1 * MIB)).toBe(MIB);
  const all = touchedBytes(process.pid, 64 * 2 ** 30);
  expect(all).toBeGreaterThan(8 * MIB);
  // No pid is that large (/proc/sys/kernel/pid_max).
  expect(touchedBytes(2 ** 30, MIB)).toBeUndefined();
});
