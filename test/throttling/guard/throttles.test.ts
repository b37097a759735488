/** In which order the guard writes its journal and the groups. On a tree of files that does what the kernel does. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GroupFiles } from '../../../src/throttling/cgroup/files.ts';
import { Throttles } from '../../../src/throttling/guard/throttles.ts';

const CPU = '/sys/fs/cgroup/cpu';
const VALID_MS = 1_800;
const NEW_GROUP = { tasks: '', 'cpu.shares': '1024', 'cpu.cfs_quota_us': '-1', 'cpu.cfs_period_us': '100000' };

/** As cgroupfs: a new group has its files, an old one goes with them; a thread written to `tasks` is in it. */
class Groups extends GroupFiles {
  readonly #root: string;
  readonly #happened: string[];

  constructor(root: string, happened: string[]) {
    super(root);
    this.#root = root;
    this.#happened = happened;
  }

  override makeGroup(path: string): void {
    super.makeGroup(path);
    for (const [name, text] of Object.entries(NEW_GROUP)) writeFileSync(join(this.#root, path, name), text);
    this.#happened.push('made');
  }

  override removeGroup(path: string): void {
    rmSync(join(this.#root, path), { recursive: true });
    this.#happened.push('removed');
  }

  override write(path: string, text: string): void {
    if (!path.endsWith('/tasks')) writeFileSync(join(this.#root, path), text);
    if (path.endsWith('/cpu.cfs_quota_us')) this.#happened.push('quota');
  }
}

describe('the guard', () => {
  let root: string;
  /** What was written, in this order; of the journal: the groups in it. */
  let happened: string[];
  let throttles: Throttles;
  let nowMs: number;

  const put = (path: string, text: string) => {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'hostevac-tree-'));
    happened = [];
    nowMs = 0;
    put('/proc/self/mountinfo', '32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n');
    put(`${CPU}/tasks`, '11\n12\n');
    for (const tid of [11, 12]) {
      put(`/proc/${tid}/cgroup`, '1:cpu:/\n');
      put(`/proc/${tid}/task/${tid}/stat`, '');
    }
    throttles = new Throttles({
      files: new Groups(root, happened),
      save: ({ throttles: saved }) => happened.push(`journal of ${saved.flatMap(({ cells }) => cells).length}`),
      log: () => undefined,
      now: () => nowMs,
      startTicksOf: () => 1,
    });
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const hold = (pid: number) =>
    throttles.set(
      1,
      {
        type: 'set',
        host: 'a',
        vm: `vm${pid}`,
        token: 1,
        validForMs: VALID_MS,
        process: { pid, startTicks: 1 },
        threads: [{ tid: pid, cores: 0.5 }],
        share: 0.5,
        demandCores: 1,
        longestStretchMs: 300,
      },
      undefined,
    );

  test.each([
    ['whose worker has gone', () => throttles.ownerGone(1)],
    ['that nobody renewed', () => throttles.tick()],
    ['that are released', () => throttles.releaseAll(null)],
  ])('restores all guests %s before it writes its journal, once', (_, act) => {
    hold(11);
    hold(12);
    happened.length = 0;
    nowMs = 5_000;
    act();
    expect(happened.filter((what) => what !== 'quota')).toEqual(['removed', 'removed', 'journal of 0']);
  });

  test('has the group of a probe in its journal while it is there', () => {
    throttles.probe([11]);
    expect(happened.filter((what) => what !== 'quota')).toEqual(['journal of 1', 'made', 'removed', 'journal of 0']);
  });

  describe('where the kernel keeps a thread from its CPU', () => {
    const runs = (tid: number, usedNs: number, state: 'R' | 'S') => {
      put(`/proc/${tid}/schedstat`, `${usedNs} 0 0\n`);
      put(`/proc/${tid}/stat`, `${tid} (CPU 0/TCG) ${state} ${'0 '.repeat(49)}\n`);
    };
    /** Quotas written in so long a time, at a look every 50 ms. */
    const writesIn = (ms: number): number => {
      happened.length = 0;
      for (const endMs = nowMs + ms; nowMs < endMs; ) {
        nowMs += 50;
        throttles.tick();
      }
      return happened.filter((what) => what === 'quota').length;
    };

    test('lets it run before it has waited for longer than it may', () => {
      hold(11);
      runs(11, 7, 'R');
      throttles.tick();
      // By the next look it might have waited for 300 ms: it may have ended its turn just after the look before the first.
      expect(writesIn(150)).toBe(0);
      expect(writesIn(50)).toBe(1);
      expect(writesIn(150)).toBe(0);
      expect(writesIn(50)).toBe(1);
    });

    test('is not concerned with one that runs, one that does not want to, and one that nobody holds', () => {
      hold(11);
      for (let used = 1; used < 10; used += 1) {
        runs(11, used, 'R');
        expect(writesIn(150)).toBe(0);
      }
      runs(11, 10, 'S');
      expect(writesIn(400)).toBe(0);
      runs(11, 10, 'R');
      expect(writesIn(150)).toBe(0);
      throttles.releaseAll(null);
      expect(writesIn(500)).toBe(0);
    });
  });
});
