/** What virsh prints, as values. The texts are what virsh 11.3 printed of real domains. */
import { describe, expect, test } from 'vitest';
import { dirtyRate, domainList, domainStats, jobStats, uuidList } from '../../../src/hypervisors/libvirt/answers.ts';

const MIB = 2 ** 20;

const RUNNING = `Domain: 'lvhot'
  state.state=1
  state.reason=2
  balloon.current=262144
  balloon.maximum=262144
  balloon.rss=144208
  vcpu.current=2
  vcpu.maximum=2
  vcpu.0.state=1
  vcpu.0.time=94110000000
  vcpu.0.wait=0
  vcpu.0.delay=17884874326
  vcpu.1.state=1
  vcpu.1.time=890000000
`;

const OUTGOING = `Job type: 2

operation: 5
time_elapsed: 921
downtime: 300
setup_time: 1
data_total: 268967936
memory_total: 268967936
memory_processed: 29419812
memory_remaining: 238706688
memory_bps: 42025140
memory_dirty_rate: 1000
memory_iteration: 3
memory_page_size: 4096
`;

describe('domstats', () => {
  test('a running domain: memory, vCPUs and what they have used', () => {
    expect(domainStats(RUNNING).get('lvhot')).toEqual({
      state: 'running',
      pausedByMigration: false,
      startsUp: false,
      postCopy: 'no',
      maxMemoryBytes: 256 * MIB,
      residentBytes: 144_208 * 1_024,
      cpus: 2,
      cpuMs: 95_000,
    });
  });

  test.each([
    [3, 1, { state: 'paused', pausedByMigration: false, postCopy: 'no' }],
    [3, 2, { state: 'paused', pausedByMigration: true, postCopy: 'no' }],
    [3, 11, { state: 'paused', startsUp: true, pausedByMigration: false }],
    [3, 12, { state: 'paused', pausedByMigration: false, postCopy: 'active' }],
    [3, 13, { state: 'paused', pausedByMigration: false, postCopy: 'broken' }],
    [1, 10, { state: 'running', pausedByMigration: false, postCopy: 'active' }],
    [1, 11, { state: 'running', pausedByMigration: false, postCopy: 'broken' }],
    [1, 12, { state: 'running', pausedByMigration: false, postCopy: 'no' }],
    [4, 0, { state: 'inShutdown', pausedByMigration: false, postCopy: 'no' }],
    [5, 4, { state: 'shutOff', pausedByMigration: false, postCopy: 'no' }],
    [99, 2, { state: 'unknown', pausedByMigration: false, postCopy: 'no' }],
  ])('state %i for reason %i', (state, reason, expected) => {
    const text = `Domain: 'x'\n  state.state=${state}\n  state.reason=${reason}\n`;
    expect(domainStats(text).get('x')).toMatchObject(expected);
  });

  test('names that look like something else stay names', () => {
    for (const name of ["it's", "Domain: 'x'", '-rf', 'a;b', 'größe', '$(reboot)', 'a=b', ' x ', "'"]) {
      const text = `Domain: '${name}'\n  state.state=5\n  state.reason=1\n\nDomain: 'other'\n  state.state=1\n`;
      const stats = domainStats(text);
      expect([...stats.keys()]).toEqual([name, 'other']);
      expect(stats.get(name)?.state).toBe('shutOff');
    }
  });

  test('what is not there is not invented', () => {
    expect(domainStats('')).toEqual(new Map());
    const stats = domainStats("Domain: 'x'\n  state.state=5\n  balloon.rss=nan\n").get('x');
    expect(stats).toMatchObject({ residentBytes: null, cpuMs: null, maxMemoryBytes: 0 });
  });
});

describe('domjobinfo', () => {
  test('a migration that leaves', () => {
    expect(jobStats(OUTGOING)).toEqual({
      kind: 'outgoing',
      elapsedMs: 921,
      downtimeMs: 300,
      totalBytes: 268_967_936,
      processedBytes: 29_419_812,
      remainingBytes: 238_706_688,
      bytesPerSec: 42_025_140,
      dirtiedBytesPerSec: 4_096_000,
      pass: 3,
    });
  });

  test('none, another job, one that has completed, and what an event says of it', () => {
    expect(jobStats('Job type: 0\n\n')?.kind).toBe('none');
    expect(jobStats('Job type: 2\n\noperation: 6\n')?.kind).toBe('other');
    // After `domjobabort` over a silent link.
    expect(jobStats('Job type: 4\n\noperation: 5\ntime_elapsed: 0\n')?.kind).toBe('ending');
    expect(jobStats('Job type: 5\n\noperation: 5\n')?.kind).toBe('ending');
    expect(jobStats('Job type: 3\n\noperation: 4\ndowntime: 37\n')).toMatchObject({
      kind: 'completed',
      downtimeMs: 37,
    });
    expect(jobStats('\toperation: 5\n\ttime_elapsed: 37712\n\tdowntime: 3\n')).toMatchObject({
      kind: 'completed',
      downtimeMs: 3,
      elapsedMs: 37_712,
    });
  });

  test('nothing was printed: nothing is known', () => {
    expect(jobStats('')).toBeNull();
  });
});

test('the list of domains, whatever they are called', () => {
  const one = '11111111-2222-4333-8444-000000000001';
  const other = '11111111-2222-4333-8444-000000000002';
  const list = domainList(`${one} a b  \n${other} ${one}\n\n`);
  expect([...list]).toEqual([
    ['a b  ', one],
    [one, other],
  ]);
  expect(uuidList(`${one}\n${other}\n\n`)).toEqual(new Set([one, other]));
});

test('what a look at dirty pages has found', () => {
  const text = "Domain: 'x'\n  dirtyrate.calc_status=2\n  dirtyrate.calc_start_time=17\n  dirtyrate.calc_period=1\n";
  expect(dirtyRate(`${text}  dirtyrate.megabytes_per_second=68\n`)).toEqual({
    state: 'measured',
    startedAtSec: 17,
    periodSec: 1,
    mibPerSec: 68,
  });
  expect(dirtyRate("Domain: 'x'\n")).toBeNull();
});
