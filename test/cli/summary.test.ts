import { describe, expect, it } from 'vitest';
import { sentence, summaryLines } from '../../src/cli/summary.ts';
import { displayWidth, plain } from '../../src/cli/text.ts';
import type { MoveResult, OperationResult } from '../../src/domain/operation.ts';
import { prediction } from './records.ts';

const moved = (vm: string, over: Partial<MoveResult> = {}): MoveResult => ({
  vm,
  source: 'node-a',
  destination: 'node-b',
  state: 'done',
  attempts: 1,
  totalMs: 8_000,
  downtimeMs: 40,
  transferredBytes: 2 ** 30,
  minShare: 1,
  meanShare: 1,
  harmCpuMs: 20,
  predicted: null,
  predictionError: null,
  relaxed: [],
  reason: null,
  ...over,
});
const result = (over: Partial<OperationResult> = {}): OperationResult => ({
  id: 'op-1',
  kind: 'evacuateNode',
  state: 'done',
  host: 'node-a',
  makespanMs: 41_000,
  moves: [
    moved('web-1'),
    moved('db-1', { downtimeMs: 210, minShare: 0.1, meanShare: 0.42, totalMs: 30_000, harmCpuMs: 4_200 }),
  ],
  empty: true,
  shutdowns: [],
  skipped: [],
  blocked: [],
  ...over,
});
const options = { columns: 120, paint: plain, reason: null, command: 'hostevac' };

describe('the summary', () => {
  it('a host that was left with VMs on purpose: done is not empty, and who stays is said', () => {
    const skipped = [{ vm: 'gpu-1', reason: 'gpu-1 cannot be migrated: a device; its label says that it stays' }];
    const shutdowns = [
      { vm: 'old-1', host: 'node-a', state: 'shutOff' as const, attempts: 1, tookMs: 9_000, reason: null },
    ];
    const lines = summaryLines(result({ moves: [moved('web-1')], skipped, shutdowns, empty: false }), options);
    expect(lines).toContain(
      'node-a is done, but not empty: 1 VM moved, 1 shut down in 41s, 1 left there on purpose; longest downtime 40ms (web-1); no VM was throttled',
    );
    expect(lines).toContain('  old-1: shut down in 9s');
    expect(lines).toContain(`  gpu-1 was left where it is: ${skipped[0]?.reason}`);
    const emptied = result({ moves: [], shutdowns });
    expect(summaryLines(emptied, options)[0]).toBe('node-a is empty: 0 VMs moved, 1 shut down in 41s');
  });

  it('a host that was emptied: one line per VM, one sentence, what is next', () => {
    expect(summaryLines(result(), options)).toEqual([
      'VM     DESTINATION  STATE  TRIES  TOTAL  DOWNTIME  SHARE MEAN   MIN      HARM',
      'web-1  node-b       done       1     8s      40ms        100%  100%  20ms CPU',
      'db-1   node-b       done       1    30s     210ms         42%   10%  4.2s CPU',
      '',
      'node-a is empty: 2 VMs moved in 41s; longest downtime 210ms (db-1); most throttled: db-1 to 10%',
      '',
      'Next:',
      '  hostevac uncordon node-a    # when VMs may come back to it',
    ]);
  });

  it('what was predicted stands beside what it came to', () => {
    const medians = { totalMs: 12_000, downtimeMs: 210, harmCpuMs: 3_000 };
    const predicted = { ...medians, intervals: prediction() };
    expect(
      summaryLines(result({ moves: [moved('web-1', { predicted }), moved('db-1')] }), options).slice(0, 3),
    ).toEqual([
      'VM     DESTINATION  STATE  TRIES  TOTAL  PREDICTED      DOWNTIME  SHARE MEAN   MIN      HARM',
      'web-1  node-b       done       1     8s  12s (10..15s)      40ms        100%  100%  20ms CPU',
      'db-1   node-b       done       1     8s  -                  40ms        100%  100%  20ms CPU',
    ]);
  });

  it('a host that was empty already', () => {
    expect(summaryLines(result({ moves: [] }), options)[0]).toBe('node-a was already empty: nothing to move.');
  });

  it('what could not be moved has its reason, and there is something to try', () => {
    const reason = 'no host has 16GiB of memory free';
    const lines = summaryLines(
      result({ state: 'partial', moves: [moved('web-1')], blocked: [{ vm: 'db-1', reason }] }),
      { ...options, reason: { code: 'noDestination', message: '1 VM has no destination' } },
    );
    expect(lines).toContain(
      'node-a is not empty: 1 VM moved in 41s, 1 could not be: 1 VM has no destination; longest downtime 40ms (web-1); no VM was throttled',
    );
    expect(lines).toContain(`  db-1: ${reason}`);
    expect(lines.join('\n')).toContain('hostevac status op-1');
  });

  it('a VM that failed for good is counted once', () => {
    const partial = result({
      state: 'partial',
      moves: [moved('web-1'), moved('db-1', { state: 'failed' }), moved('db-2', { state: 'failed' })],
      blocked: [{ vm: 'db-1', reason: 'every host was tried' }],
    });
    expect(sentence(partial, options)).toContain('1 VM moved in 41s, 1 could not be, 1 failed;');
  });

  it('each state has its sentence', () => {
    const none = result({ state: 'blocked', moves: [], blocked: [{ vm: 'a', reason: 'pinned' }] });
    expect(sentence(none, options)).toBe('node-a could not be emptied: 1 could not be');
    expect(sentence(result({ state: 'cancelled', moves: [] }), options)).toBe(
      'Cancelled: no VM moved; all run where they were',
    );
    expect(
      sentence(result({ state: 'cancelled', moves: [moved('a'), moved('b', { state: 'cancelled' })] }), options),
    ).toMatch(/^Cancelled: 1 VM moved in 41s; the others run where they were/);
    expect(
      sentence(result({ state: 'failed', moves: [] }), {
        reason: { code: 'vmDoubled', message: 'two copies of db-1 run' },
      }),
    ).toBe('The evacuation of node-a failed after 0 VMs moved in 41s: two copies of db-1 run');
    expect(sentence(result({ kind: 'loadBalance', host: null }), options)).toMatch(/^2 VMs moved in 41s; /);
    expect(sentence(result({ state: 'running' }), options)).toBe('node-a is running: 2 VMs moved in 41s so far');
  });

  it('a VM that did not converge suggests to throttle harder', () => {
    const failed = moved('db-1', { state: 'failed', reason: 'not converged within its max time of 10m' });
    const lines = summaryLines(
      result({ state: 'blocked', moves: [failed], blocked: [{ vm: 'db-1', reason: 'max time' }] }),
      options,
    );
    expect(lines.join('\n')).toContain('--aggression 1');
  });

  it.each([40, 80, 120])('the table fits %i columns', (columns) => {
    const lines = summaryLines(result({ moves: [moved('a-rather-long-name-of-a-vm', { reason: 'x'.repeat(80) })] }), {
      ...options,
      columns,
    });
    for (const line of lines.slice(0, 2)) expect(displayWidth(line)).toBeLessThanOrEqual(columns);
    expect(lines[1]).toContain('done');
  });
});
