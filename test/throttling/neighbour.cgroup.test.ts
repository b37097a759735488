/** A throttled guest beside a neighbour that takes its CPU: it still wants what it wanted. Real threads, real cgroups. */
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { describeWith } from '../support/needs.ts';
import { Place } from './place.ts';

const busy = { host: 'a', vm: 'busy' };
/** Long enough for two of the windows in which demand may fall. */
const LOOKS = 10;
const LOOK_EVERY_MS = 250;

/** On the CPU of the test alone; the rest of the machine is left as it is. */
const onCpu = (cpu: number, pid: number) => execFileSync('taskset', ['-a', '-p', '-c', String(cpu), String(pid)]);

describeWith(['root', 'cgroup'], 'a neighbour', () => {
  test('that takes the CPU of a throttled guest does not make it want less', async () => {
    const place = new Place();
    try {
      const guest = await place.guest(1, 1);
      onCpu(1, guest.threads.pid);
      const worker = place.worker({ 'a/busy': guest.threads });
      await worker.call('hold', 1, { ...busy, share: 0.4, validForMs: 1_800, longestStretchMs: 300 });
      const before = await worker.call('guestCpu', busy);
      const group = place.group(`hevtest-neighbour-${guest.threads.pid}`);
      writeFileSync(join(group, 'cpu.shares'), '8192');
      writeFileSync(join('/sys/fs/cgroup/cpu', guest.group(), '..', 'cpu.shares'), '1024');
      const neighbour = spawn('taskset', ['-c', '1', process.execPath, '-e', 'for (;;);'], { stdio: 'ignore' });
      try {
        writeFileSync(join(group, 'cgroup.procs'), String(neighbour.pid));
        const used = () => Number(readFileSync(`/proc/${guest.threads.tids[0]}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
        const [usedMs, fromMs] = [used(), performance.now()];
        for (let look = 0; look < LOOKS; look += 1) {
          await abortableSleep(LOOK_EVERY_MS);
          expect(await worker.call('guestCpu', busy)).toMatchObject({ share: 0.4 });
        }
        // The neighbour did take it: less than 0.8 of what the quota allows.
        expect((used() - usedMs) / (performance.now() - fromMs)).toBeLessThan(0.25);
        expect(await worker.call('guestCpu', busy)).toMatchObject({ demandCores: expectDemand(before) });
      } finally {
        neighbour.kill('SIGKILL');
      }
    } finally {
      await place.close();
    }
  });
});

function expectDemand(before: unknown): unknown {
  if (typeof before !== 'object' || before === null || !('demandCores' in before)) throw new Error('no demand');
  return before.demandCores;
}
