/** How long a throttled vCPU is kept from running at a stretch, as it notes it itself. Real threads, real cgroups. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { startTicksOf } from '../../src/runtime/process-identity.ts';
import type { VcpuThreads } from '../../src/throttling/vcpu-threads.ts';
import { describeWith } from '../support/needs.ts';
import { CPU, Place } from './place.ts';

const vm = { host: 'a', vm: 'busy' };
const PROGRAM = fileURLToPath(new URL('../fixtures/gaps.mjs', import.meta.url));
/** Many periods, so that the longest gap that a quota makes is in each; what neighbours add is not. */
const ROUND_MS = 1_500;
const ROUNDS = 16;

class Busy {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly threads: VcpuThreads;

  constructor(child: ChildProcess, lines: AsyncIterator<string>, tids: number[]) {
    const pid = child.pid ?? 0;
    this.#child = child;
    this.#lines = lines;
    this.threads = { pid, startTicks: startTicksOf(pid) ?? 0, tids };
  }

  static async start(place: Place): Promise<Busy> {
    const child = spawn(process.execPath, [PROGRAM], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const { tids } = z.object({ tids: z.array(z.number()) }).parse(JSON.parse((await lines.next()).value));
    const group = place.group(`hevtest-${child.pid}`);
    writeFileSync(join(group, 'cpu.shares'), '262144');
    writeFileSync(join(group, 'cgroup.procs'), String(child.pid));
    return new Busy(child, lines, tids);
  }

  /** The longest gap in so much time from now on, ms. */
  async longestGapMs(ms: number): Promise<number> {
    const take = async (): Promise<number> => {
      this.#child.stdin?.write('\n');
      return z.object({ longestMs: z.number() }).parse(JSON.parse((await this.#lines.next()).value)).longestMs;
    };
    await take();
    await abortableSleep(ms);
    return take();
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

const cpuSchema = z.object({ gotCpuMs: z.number(), atMs: z.number(), demandCores: z.number(), share: z.number() });

describeWith(['root', 'cgroup'], 'a throttled vCPU', () => {
  const throttled = async (
    terms: { readonly share: number; readonly longestStretchMs: number },
    look: (busy: Busy, cpu: () => Promise<z.infer<typeof cpuSchema>>) => Promise<void>,
  ): Promise<void> => {
    const place = new Place();
    let busy: Busy | undefined;
    try {
      busy = await Busy.start(place);
      const worker = place.worker({ 'a/busy': busy.threads });
      await worker.call('hold', 1, { ...vm, ...terms, validForMs: 1_800 });
      await look(busy, async () => cpuSchema.parse(await worker.call('guestCpu', vm)));
      await worker.call('letGo');
      await worker.call('release', 1, vm);
    } finally {
      busy?.kill();
      await place.close();
    }
  };

  test('at 5% waits no longer than the 100 ms that it may, and gets its 5%', async () => {
    await throttled({ share: 0.05, longestStretchMs: 100 }, async (busy, cpu) => {
      const before = await cpu();
      const gaps: number[] = [];
      // A neighbour makes some rounds worse; a quota would make all.
      while (gaps.length < ROUNDS && !gaps.some((gap) => gap < 100)) gaps.push(await busy.longestGapMs(ROUND_MS));
      const after = await cpu();
      expect(Math.min(...gaps), `gaps: ${gaps.join(', ')}`).toBeLessThan(100);
      expect(Math.min(...gaps), `gaps: ${gaps.join(', ')}`).toBeGreaterThan(30);
      const share = (after.gotCpuMs - before.gotCpuMs) / ((after.atMs - before.atMs) * before.demandCores);
      expect(share).toBeLessThan(0.07);
      expect(after.share).toBeCloseTo(0.05);
    });
  });

  test('gets more than was asked for where it would wait too long with less, and says so', async () => {
    await throttled({ share: 0.02, longestStretchMs: 50 }, async (busy, cpu) => {
      const gaps: number[] = [];
      while (gaps.length < ROUNDS && !gaps.some((gap) => gap < 50)) gaps.push(await busy.longestGapMs(ROUND_MS));
      expect(Math.min(...gaps), `gaps: ${gaps.join(', ')}`).toBeLessThan(50);
      const { share } = await cpu();
      expect(share).toBeGreaterThan(0.07);
      expect(share).toBeLessThan(0.12);
    });
  });

  test('is let run by the guard where the kernel would keep it waiting for longer than it may', async () => {
    const place = new Place();
    let busy: Busy | undefined;
    try {
      busy = await Busy.start(place);
      const worker = place.worker({ 'a/busy': busy.threads });
      const gaps: number[] = [];
      while (gaps.length < ROUNDS && !gaps.some((gap) => gap < 300)) {
        await worker.call('set', 1, { ...vm, share: 0.05, longestStretchMs: 300, validForMs: 1_800 });
        // As if much had been charged to it: nothing before the next second.
        const [thread] = busy.threads.tids;
        const group = /^\d+:(?:cpu|cpu,cpuacct):(.*)$/m.exec(readFileSync(`/proc/${thread}/cgroup`, 'utf8'))?.[1];
        writeFileSync(join(CPU, group ?? '', 'cpu.cfs_period_us'), '1000000');
        writeFileSync(join(CPU, group ?? '', 'cpu.cfs_quota_us'), '1000');
        gaps.push(await busy.longestGapMs(1_200));
        await worker.call('release', 1, vm);
      }
      expect(Math.min(...gaps), `gaps: ${gaps.join(', ')}`).toBeLessThan(300);
      expect(Math.min(...gaps), `gaps: ${gaps.join(', ')}`).toBeGreaterThan(150);
      const told = /a\/busy: kept from its CPU for (\d+) ms by the kernel's accounts; let run/.exec(place.log())?.[1];
      // It is let run 125 ms before it is too late, or at the first look after that.
      expect(Number(told), place.log()).toBeGreaterThanOrEqual(175);
      expect(Number(told), place.log()).toBeLessThan(300);
    } finally {
      busy?.kill();
      await place.close();
    }
  });

  test('that is released runs on at once, also on a CPU that nothing else wakes', async () => {
    const place = new Place();
    let busy: Busy | undefined;
    try {
      busy = await Busy.start(place);
      const worker = place.worker({ 'a/busy': busy.threads });
      const gaps: number[] = [];
      for (let round = 0; round < 12; round += 1) {
        await worker.call('set', 1, { ...vm, share: 0.05, longestStretchMs: 300, validForMs: 1_800 });
        await busy.longestGapMs(100 + 7 * round);
        await worker.call('release', 1, vm);
        gaps.push(await busy.longestGapMs(300));
      }
      // Kept waiting by the quota until it was released: 48 ms.
      expect(Math.max(...gaps), `gaps: ${gaps.join(', ')}`).toBeLessThan(200);
    } finally {
      busy?.kill();
      await place.close();
    }
  });

  test('waits longer where it may: the gaps are those of the quota', async () => {
    await throttled({ share: 0.02, longestStretchMs: 300 }, async (busy) => {
      expect(await busy.longestGapMs(ROUND_MS)).toBeGreaterThan(120);
    });
  });
});
