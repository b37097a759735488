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
  smallestCores,
  writeQuota,
} from '../../../src/throttling/cgroup/quota.ts';

/** What the kernel takes: at least 1 ms, periods of 1 ms to 1 s. */
const LEAST_US = 1_000;
const MOST_PERIOD_US = 1_000_000;
/** Within the 300 ms of every preset, with room for the kernel's own lateness. */
const STALL_MS = 250;

describe('cores as a quota', () => {
  test('is what was asked for, within what the kernel takes, and no guest stands still too long', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 512, noNaN: true }), (cores) => {
        const quota = quotaFor(cores);
        expect(quota.quotaUs).toBeGreaterThanOrEqual(LEAST_US);
        expect(Number.isInteger(quota.quotaUs)).toBe(true);
        expect(quota.periodUs).toBeGreaterThanOrEqual(LEAST_US);
        expect(quota.periodUs).toBeLessThanOrEqual(MOST_PERIOD_US);
        expect(coresOf(quota)).toBeCloseTo(Math.max(cores, smallestCores(1, cores)), 3);
        expect(longestStallMs(quota)).toBeLessThanOrEqual(STALL_MS);
      }),
    );
  });

  test.each([
    // Paid for a tick of 4 ms during three more periods; measured: 197 ms.
    [{ quotaUs: 1_000, periodUs: 50_000 }, 196],
    [{ quotaUs: 1_000, periodUs: 100_000 }, 396],
    [{ quotaUs: 25_000, periodUs: 50_000 }, 50],
    [{ quotaUs: 60_000, periodUs: 50_000 }, 0],
    [{ quotaUs: null, periodUs: 100_000 }, 0],
  ])('the stall of %o is %d ms', (quota, ms) => {
    expect(longestStallMs(quota)).toBe(ms);
  });

  test('every thread that is busy keeps a least part, the idle ones none', () => {
    expect(smallestCores(1, 1)).toBeCloseTo(0.02);
    expect(smallestCores(8, 0.3)).toBeCloseTo(0.02);
    expect(smallestCores(8, 3.5)).toBeCloseTo(0.08);
    expect(smallestCores(2, 64)).toBeCloseTo(0.04);
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
