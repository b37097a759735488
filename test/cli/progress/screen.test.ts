import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fractionOf, type Snapshot, vmRows, wholeOf } from '../../../src/cli/progress/rows.ts';
import { barText, screenLines } from '../../../src/cli/progress/screen.ts';
import { ansi, displayWidth, plain, withoutColours } from '../../../src/cli/text.ts';
import { moveStates, NO_FIGURES, operationStates } from '../../../src/domain/operation.ts';
import { GiB, host, MiB, move, operation, prediction, task } from '../records.ts';

const snapshot: Snapshot = {
  nowMs: 14_000,
  record: operation({
    tasks: [
      task('web-1', { state: 'done', moveIds: ['m1'] }),
      task('postgres-1', { state: 'precopy', moveIds: ['m2', 'm3'] }),
      task('mail-1', { state: 'queued', reason: { code: 'noDestination', message: 'waits for bandwidth of node-a' } }),
      task('vault-1', { state: 'blocked', reason: { code: 'noDestination', message: 'it is pinned to node-a' } }),
    ],
  }),
  moves: [
    move('web-1', {
      state: 'done',
      progress: null,
      figures: { ...NO_FIGURES, totalMs: 8_500, downtimeMs: 42, minShare: 1 },
    }),
    move('postgres-1'),
  ],
  hosts: [host('node-a'), host('node-b')],
};

describe('the live display', () => {
  it('is readable at 120 columns', () => {
    expect(screenLines(snapshot, { columns: 120, rows: 30 }, plain)).toEqual([
      'evacuate node-a  running  1/4 VMs  elapsed 12s  eta ~12s  egress 40MiB/s of 100MiB/s',
      'web-1      -> node-b done        8.5s, downtime 42ms  share 100% at least',
      'postgres-1 -> node-b precopy    [######################--------]  75%  p3   share 40%   eta 12s    40MiB/s    try 2',
      'mail-1               queued      waits for bandwidth of node-a',
      'vault-1              blocked     it is pinned to node-a',
    ]);
  });

  it('a migration with a prediction: when it ends, and how sure that is', () => {
    const running = move('postgres-1');
    const moves = [{ ...running, progress: running.progress && { ...running.progress, prediction: prediction() } }];
    expect(screenLines({ ...snapshot, moves }, { columns: 120, rows: 30 }, plain)[2]).toBe(
      'postgres-1 -> node-b precopy    [#####################--------]  75%  p3   share 40%   ends in 12s (10..15s)  40MiB/s',
    );
  });

  it('at 80 columns the bar is shorter', () => {
    expect(screenLines(snapshot, { columns: 80, rows: 30 }, plain)).toEqual([
      'evacuate node-a  running  1/4 VMs  elapsed 12s  eta ~12s',
      'web-1      -> node-b done        8.5s, downtime 42ms  share 100% at least',
      'postgres-1 -> node-b precopy    [#######---]  75%  p3   share 40%   eta 12s',
      'mail-1               queued      waits for bandwidth of node-a',
      'vault-1              blocked     it is pinned to node-a',
    ]);
  });

  it('at 40 columns a VM still has its name, its state and how far it is', () => {
    const lines = screenLines(snapshot, { columns: 40, rows: 30 }, plain);
    expect(lines[0]).toMatch(/^evacuate node-a {2}running {2}1\/4 VMs/);
    expect(lines[2]).toMatch(/^postgres-1 precopy .*75%/);
    expect(lines[4]).toContain('pinned');
  });

  it('in a short terminal those that run are shown, and how many are not', () => {
    const lines = screenLines(snapshot, { columns: 80, rows: 6 }, plain);
    expect(lines).toHaveLength(3);
    expect(lines[1]).toContain('postgres-1');
    expect(lines[2]).toContain('and 3 VMs more');
  });

  it('says what the operation waits for', () => {
    const record = operation({ waitingFor: ['room on node-b', 'an inventory of node-c'] });
    expect(screenLines({ ...snapshot, record }, { columns: 80, rows: 24 }, plain).at(-1)).toBe(
      '  waits for: room on node-b (and 1 more)',
    );
  });

  it('colours change nothing but colours', () => {
    const coloured = screenLines(snapshot, { columns: 100, rows: 30 }, ansi);
    expect(coloured.map(withoutColours)).toEqual(screenLines(snapshot, { columns: 100, rows: 30 }, plain));
    expect(coloured.join('')).toContain('\u001b[');
  });

  it('fits any terminal, whatever the names, states and figures', () => {
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 });
    const vm = fc.record({
      vm: name,
      destination: name,
      state: fc.constantFrom(...moveStates),
      taskState: fc.constantFrom(...moveStates),
      attempts: fc.integer({ min: 1, max: 12 }),
      remaining: fc.integer({ min: 0, max: 2 ** 40 }),
      rate: fc.integer({ min: 0, max: 2 ** 40 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      etaMs: fc.option(fc.integer({ min: 0, max: 10 ** 9 })),
      reason: fc.option(name),
    });
    fc.assert(
      fc.property(
        fc.array(vm, { maxLength: 12 }),
        fc.constantFrom(...operationStates),
        fc.integer({ min: 1, max: 200 }),
        fc.integer({ min: 1, max: 40 }),
        (vms, state, columns, rows) => {
          const record = operation({
            state,
            tasks: vms.map((entry) =>
              task(entry.vm, { state: entry.taskState, moveIds: Array.from({ length: entry.attempts }, String) }),
            ),
          });
          const moves = vms.map((entry) =>
            move(entry.vm, {
              state: entry.state,
              destination: entry.destination,
              reason: entry.reason === null ? null : { code: 'internal', message: entry.reason },
              progress: {
                pass: 1,
                remainingBytes: entry.remaining,
                transferredBytes: 0,
                totalBytes: GiB,
                rateBytesPerSec: entry.rate,
                dirtyRateBytesPerSec: 0,
                grantBytesPerSec: 0,
                share: entry.share,
                etaMs: entry.etaMs,
                prediction: entry.etaMs === null ? null : prediction(),
                decision: '',
              },
            }),
          );
          const lines = screenLines({ ...snapshot, record, moves }, { columns, rows }, plain);
          expect(lines.length).toBeLessThanOrEqual(Math.max(3, rows - 3));
          for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(Math.max(1, columns - 1));
        },
      ),
    );
  });

  it('a bar is full only when nothing is left', () => {
    expect(barText(0, 4)).toBe('----');
    expect(barText(0.999, 4)).toBe('###-');
    expect(barText(1, 4)).toBe('####');
  });
});

describe('what a watcher knows', () => {
  it('a VM that waits for another try shows no figures of the try that failed', () => {
    const record = operation({ tasks: [task('db', { state: 'queued', moveIds: ['m1'] })] });
    const failed = move('db', {
      state: 'failed',
      destination: 'node-b',
      reason: { code: 'linkFailed', message: 'cut' },
    });
    expect(vmRows(record, [failed])).toMatchObject([
      { state: 'queued', destination: null, progress: null, fraction: 0 },
    ]);
  });

  it('a running VM has the state of its migration, which is newer than its task', () => {
    const record = operation({ tasks: [task('db', { state: 'admitted', moveIds: ['m1'] })] });
    expect(vmRows(record, [move('db', { state: 'switchover' })])[0]?.state).toBe('switchover');
  });

  it('the part that is clean at the destination counts, not the bytes sent', () => {
    const progress = move('db').progress;
    expect(progress).not.toBeNull();
    if (progress === null) return;
    expect(fractionOf({ ...progress, transferredBytes: 9 * GiB, remainingBytes: 256 * MiB, totalBytes: GiB })).toBe(
      0.75,
    );
    expect(fractionOf({ ...progress, remainingBytes: 2 * GiB, totalBytes: GiB })).toBe(0);
    expect(fractionOf({ ...progress, remainingBytes: 0, totalBytes: 0 })).toBe(0);
    expect(fractionOf(null)).toBe(0);
  });

  it('the estimate for the whole waits for evidence, and is never below the slowest running VM', () => {
    const one = operation({ tasks: [task('a', { state: 'precopy', moveIds: ['m'] }), task('b'), task('c')] });
    const early = move('a');
    const rows = vmRows(one, [{ ...early, progress: early.progress && { ...early.progress, remainingBytes: GiB } }]);
    expect(wholeOf({ nowMs: 3_000, record: one, moves: [], hosts: [] }, rows).etaMs).toBeNull();
    const later = vmRows(one, [early]);
    expect(wholeOf({ nowMs: 14_000, record: one, moves: [], hosts: [] }, later).etaMs).toBe(36_000);
    const last = operation({ tasks: [task('a', { state: 'precopy', moveIds: ['m'] })] });
    expect(wholeOf({ nowMs: 14_000, record: last, moves: [], hosts: [] }, vmRows(last, [early])).etaMs).toBe(12_000);
  });

  it('an ended operation has no estimate, and its elapsed time stands still', () => {
    const record = operation({ state: 'done', endedAtMs: 10_000 });
    expect(wholeOf({ nowMs: 99_000, record, moves: [], hosts: [] }, [])).toMatchObject({
      etaMs: null,
      elapsedMs: 8_000,
    });
  });
});
