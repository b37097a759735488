/** Real guests that QEMU does not migrate, on a host that is evacuated: asked to shut down, and never made to. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readState } from '../../src/lab/guest/inspect.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { asking, LabPlace } from './place.ts';
import { moveOf, resultOf } from './results.ts';

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'a real VM that cannot be migrated', () => {
  let place: LabPlace;
  let gpu: ChildProcess | undefined;
  beforeEach(() => {
    place = new LabPlace();
  });
  afterEach(async () => {
    gpu?.kill('SIGKILL');
    await place.close();
  });

  test('and does not hear its power button is blocked after its time, and left running, unharmed', async () => {
    const lab = await place.lab({ profiles: ['idle'] });
    const dir = place.dir('lab-a', 'gpu-1');
    mkdirSync(dir.path);
    const image = join(lab.place, 'images', 'idle.img');
    const argv = ['-accel', 'tcg', '-m', '96', '-smp', '1', '-nodefaults', '-display', 'none'];
    argv.push('-drive', `file=${image},format=raw,if=ide,snapshot=on`);
    // Memory shared with the host as a peer: QEMU says of it that it cannot be migrated.
    argv.push('-object', 'memory-backend-ram,id=shared,size=1M,share=on');
    argv.push('-device', 'ivshmem-plain,memdev=shared,master=off');
    const monitors = ['-qmp', `unix:${dir.monitor},server=on,wait=off`, '-qmp', `unix:${dir.spare},server=on,wait=off`];
    gpu = spawn('qemu-system-x86_64', [...argv, ...monitors], { stdio: 'inherit' });
    const definition = {
      name: 'gpu-1',
      memory: '96MiB',
      cpus: 1,
      argv,
      labels: { 'hostevac.non-migratable': 'shutdown' },
    };
    writeFileSync(dir.definition, JSON.stringify(definition));
    await until(() => existsSync(dir.spare), 10_000, 'its monitor');
    await until(async () => (await asking(dir.spare, readState)).booted, 20_000, 'the guest has booted');
    const { pid } = place.only('gpu-1');
    const progress = await place.progressOf({ dir });

    await place.startUp();
    const evacuate = ['evacuate', 'lab-a', '--non-migratable', 'label', '--shutdown-timeout', '5s'];
    const dry = await place.run(...evacuate, '--dry-run');
    expect(dry.stdout).toMatch(/shut down gpu-1 on lab-a, last: gpu-1 cannot be migrated: .*its label/);

    const ended = await place.run(...evacuate, '--wait', '--timeout', '90s', '-o', 'json');
    expect(ended.code, `${ended.stdout}${place.said()}`).toBe(3);
    const result = resultOf(ended);
    expect(result).toMatchObject({ state: 'partial', empty: false, skipped: [] });
    expect(moveOf(result, 'idle-1').state).toBe('done');
    expect(result.shutdowns).toMatchObject([{ vm: 'gpu-1', host: 'lab-a', state: 'blocked', tookMs: null }]);
    expect(result.blocked).toEqual([{ vm: 'gpu-1', reason: expect.stringMatching(/did not shut down within 5s/) }]);

    const copy = place.only('gpu-1');
    expect(copy).toMatchObject({ host: 'lab-a', pid });
    const report = await place.check(copy);
    expect(report.faults).toEqual([]);
    expect(report.progress).toBeGreaterThan(progress);
    await place.goesOn(copy);
    expect(JSON.parse(readFileSync(dir.definition, 'utf8'))).toMatchObject({ name: 'gpu-1', argv });

    // Without a request that shuts down its label says nothing but that it agrees.
    const again = await place.run('evacuate', 'lab-a', '--wait', '--timeout', '90s', '-o', 'json');
    expect(again.code, again.stdout).toBe(4);
    expect(resultOf(again)).toMatchObject({ state: 'blocked', shutdowns: [], moves: [] });
    // Left there on purpose: done, and it is said that the host is not empty.
    const skipping = await place.run('evacuate', 'lab-a', '--non-migratable', 'skip', '--wait', '--timeout', '90s');
    expect(skipping.code, skipping.stdout).toBe(0);
    expect(skipping.stdout).toMatch(/lab-a is done, but not empty: .*1 left there on purpose/);
  });
});
