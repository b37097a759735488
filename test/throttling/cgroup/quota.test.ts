/** Cores as quotas, and how v1 and v2 take them; on recorded trees. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GroupFiles } from '../../../src/throttling/cgroup/files.ts';
import {
  coresAbove,
  coresOf,
  longestStallMs,
  type Quota,
  quotaFor,
  readQuota,
  writeQuota,
} from '../../../src/throttling/cgroup/quota.ts';

/** What the kernel takes: at least 1 ms, periods of 1 ms to 1 s. */
const LEAST_US = 1_000;
const MOST_PERIOD_US = 1_000_000;

const allowances = fc.record({
  cores: fc.double({ min: 0, max: 64, noNaN: true }),
  busyThreads: fc.integer({ min: 1, max: 64 }),
  longestStretchMs: fc.double({ min: 1, max: 2_000, noNaN: true }),
});

describe('cores as a quota', () => {
  test('is at least what was asked for, within what the kernel takes, and no thread waits too long', () => {
    fc.assert(
      fc.property(allowances, (allowance) => {
        const quota = quotaFor(allowance);
        expect(quota.quotaUs).toBeGreaterThanOrEqual(LEAST_US);
        expect(Number.isInteger(quota.quotaUs)).toBe(true);
        expect(quota.periodUs).toBeGreaterThanOrEqual(LEAST_US);
        expect(quota.periodUs).toBeLessThanOrEqual(MOST_PERIOD_US);
        expect(coresOf(quota)).toBeGreaterThan(allowance.cores - 0.001);
        expect(longestStallMs(quota, allowance.busyThreads)).toBeLessThan(allowance.longestStretchMs);
      }),
    );
  });

  test('is never more for a longer stretch, nor less for more cores', () => {
    fc.assert(
      fc.property(allowances, fc.double({ min: 1, max: 10, noNaN: true }), (allowance, factor) => {
        const { cores, longestStretchMs } = allowance;
        const least = coresOf(quotaFor(allowance)) + 0.001;
        expect(coresOf(quotaFor({ ...allowance, longestStretchMs: longestStretchMs * factor }))).toBeLessThan(least);
        expect(coresOf(quotaFor({ ...allowance, cores: cores / factor }))).toBeLessThan(least);
      }),
    );
  });

  test.each([
    // Every preset's stretch leaves the period as long as it ever is.
    [0.05, 1, 300, { quotaUs: 2_500, periodUs: 50_000 }],
    [0, 1, 300, { quotaUs: 1_000, periodUs: 50_000 }],
    [0.5, 2, 300, { quotaUs: 25_000, periodUs: 50_000 }],
    [0.05, 1, 100, { quotaUs: 2_250, periodUs: 45_000 }],
    // Raised: less cannot be had without a longer wait.
    [0, 1, 100, { quotaUs: 2_000, periodUs: 45_000 }],
    [0.05, 1, 50, { quotaUs: 1_000, periodUs: 12_000 }],
    [0.05, 2, 100, { quotaUs: 4_766, periodUs: 28_000 }],
    [0, 1, 20, { quotaUs: 1_334, periodUs: 7_000 }],
    [0, 1, 1, { quotaUs: 4_550, periodUs: 5_000 }],
  ])('%d cores for %d busy threads, none of which may wait for %d ms: %o', (cores, busyThreads, ms, quota) => {
    expect(quotaFor({ cores, busyThreads, longestStretchMs: ms })).toEqual(quota);
  });

  test.each([
    // Paid for a tick of 4 ms during three more periods; measured: 197 ms.
    [{ quotaUs: 1_000, periodUs: 50_000 }, 1, 196],
    [{ quotaUs: 1_000, periodUs: 100_000 }, 1, 396],
    [{ quotaUs: 25_000, periodUs: 50_000 }, 1, 50],
    [{ quotaUs: 3_000, periodUs: 40_000 }, 2, 209],
    [{ quotaUs: 8_000, periodUs: 45_000 }, 2, 82],
    [{ quotaUs: 60_000, periodUs: 50_000 }, 1, 0],
    [{ quotaUs: 100_000, periodUs: 50_000 }, 2, 0],
    [{ quotaUs: null, periodUs: 100_000 }, 1, 0],
  ])('the stall of %o for %d busy threads is %d ms', (quota, threads, ms) => {
    expect(Math.round(longestStallMs(quota, threads))).toBe(ms);
  });
});

describe('a group takes a quota', () => {
  let root: string;
  let files: GroupFiles;
  const written: [file: string, text: string][] = [];
  class Recorded extends GroupFiles {
    override write(path: string, text: string): void {
      written.push([path.split('/').at(-1) ?? '', text]);
      writeFileSync(join(root, path), text);
    }
  }
  const group = (path: string, content: Readonly<Record<string, string>>) => {
    mkdirSync(join(root, path), { recursive: true });
    for (const [name, text] of Object.entries(content)) writeFileSync(join(root, path, name), text);
  };
  const v1 = (quota: string, period: string) => ({
    'cpu.cfs_quota_us': `${quota}\n`,
    'cpu.cfs_period_us': `${period}\n`,
  });

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'hostevac-tree-'));
    files = new Recorded(root);
    written.length = 0;
  });
  afterEach(() => rmSync(root, { recursive: true }));

  test.each([
    ['a longer period goes first', ['50000', '100000'], { quotaUs: 90_000, periodUs: 200_000 }, ['period', 'quota']],
    ['a shorter one last', ['50000', '100000'], { quotaUs: 25_000, periodUs: 50_000 }, ['quota', 'period']],
    ['the same is not written', ['-1', '100000'], { quotaUs: 50_000, periodUs: 100_000 }, ['quota']],
    [
      'none at all before a longer period',
      ['5000', '50000'],
      { quotaUs: null, periodUs: 100_000 },
      ['quota', 'period'],
    ],
  ])('v1: %s', (_, [quota = '', period = ''], wanted, order) => {
    group('/g', v1(quota, period));
    writeQuota(files, { version: 1, path: '/g' }, wanted);
    expect(written.map(([file]) => file.replace(/cpu\.cfs_(.*)_us/, '$1'))).toEqual(order);
    expect(readQuota(files, { version: 1, path: '/g' })).toEqual(wanted);
  });

  test('v1: on the way from any quota to any other the group never has more than with either', () => {
    const quota = fc.record({
      quotaUs: fc.option(fc.integer({ min: 1_000, max: 4_000_000 })),
      periodUs: fc.integer({ min: 1_000, max: 1_000_000 }),
    });
    fc.assert(
      fc.property(quota, quota, (before: Quota, after: Quota) => {
        group('/g', v1(String(before.quotaUs ?? -1), String(before.periodUs)));
        const most = Math.max(coresOf(before), coresOf(after));
        class Watched extends GroupFiles {
          override write(path: string, text: string): void {
            super.write(path, `${text}\n${' '.repeat(8)}`);
            expect(coresOf(readQuota(this, { version: 1, path: '/g' }) ?? after)).toBeLessThanOrEqual(most);
          }
        }
        writeQuota(new Watched(root), { version: 1, path: '/g' }, after);
        expect(readQuota(files, { version: 1, path: '/g' })).toEqual(after);
      }),
      { numRuns: 50 },
    );
  });

  test('v2 takes both at once, and `max`', () => {
    group('/g', { 'cpu.max': 'max 100000\n' });
    const at = { version: 2, path: '/g' } as const;
    expect(readQuota(files, at)).toEqual({ quotaUs: null, periodUs: 100_000 });
    writeQuota(files, at, { quotaUs: 12_500, periodUs: 50_000 });
    expect(readFileSync(join(root, 'g/cpu.max'), 'utf8')).toBe('12500 50000');
    writeQuota(files, at, { quotaUs: null, periodUs: 100_000 });
    expect(written.at(-1)).toEqual(['cpu.max', 'max 100000']);
  });

  test('v1: what the groups above leave counts, the tightest of them, the mounted one too', () => {
    group('/m', v1('300000', '100000'));
    group('/m/a', v1('-1', '100000'));
    group('/m/a/b', v1('100000', '200000'));
    group('/m/a/b/c', v1('-1', '100000'));
    const at = (path: string) => coresAbove(files, { version: 1, path, mountPoint: '/m' });
    expect(at('/m/a/b/c')).toBe(0.5);
    expect(at('/m/a/b')).toBe(3);
    expect(at('/m')).toBe(Number.POSITIVE_INFINITY);
  });

  test('a group without the controller has none, and what is no quota is refused', () => {
    group('/g', {});
    expect(readQuota(files, { version: 2, path: '/g' })).toBeNull();
    group('/h', { 'cpu.max': 'half of it\n' });
    expect(() => readQuota(files, { version: 2, path: '/h' })).toThrow('no CPU quota');
  });
});
