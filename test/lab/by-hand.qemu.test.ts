/** A QEMU that a person has started, with a `vm.json` that says what it is: evacuated like any other. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readState } from '../../src/lab/guest/inspect.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { asking, LabPlace } from './place.ts';
import { moveOf, resultOf } from './results.ts';

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'a VM that was started by hand', () => {
  let place: LabPlace;
  let byHand: ChildProcess | undefined;
  beforeEach(() => {
    place = new LabPlace();
  });
  afterEach(async () => {
    byHand?.kill('SIGKILL');
    await place.close();
  });

  test('with a QMP socket alone and a definition without uuid is evacuated, and its definition goes with it', async () => {
    const lab = await place.lab({ profiles: ['idle'] });
    const dir = place.dir('lab-a', 'web-1');
    mkdirSync(dir.path);
    const image = join(lab.place, 'images', 'idle.img');
    const argv = ['-accel', 'tcg', '-m', '96', '-smp', '1', '-nodefaults', '-display', 'none'];
    argv.push('-drive', `file=${image},format=raw,if=ide,snapshot=on`);
    byHand = spawn('qemu-system-x86_64', [...argv, '-qmp', `unix:${dir.monitor},server=on,wait=off`], {
      stdio: 'inherit',
    });
    const gone = once(byHand, 'exit');
    writeFileSync(dir.definition, JSON.stringify({ name: 'web-1', memory: '96MiB', cpus: 1, argv, owner: 'ops' }));
    await until(() => existsSync(dir.monitor), 10_000, 'its monitor');
    await until(async () => (await asking(dir.monitor, readState)).booted, 20_000, 'the guest has booted');
    const { progress } = await asking(dir.monitor, readState);

    await place.startUp();
    const ended = await place.run('evacuate', 'lab-a', '--wait', '--timeout', '90s', '-o', 'json');
    expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
    const result = resultOf(ended);
    console.log(`makespan ${result.makespanMs} ms; ${JSON.stringify(result.moves)}`);
    expect(result.state).toBe('done');
    const { destination } = moveOf(result, 'web-1');
    expect(destination).not.toBe('lab-a');
    const [code] = await gone;
    expect(code).toBe(0);

    const copy = place.only('web-1');
    expect(copy.host).toBe(destination);
    expect(existsSync(copy.dir.spare)).toBe(true);
    const report = await place.check(copy);
    expect(report.faults).toEqual([]);
    expect(report.progress).toBeGreaterThan(progress);
    await place.goesOn(copy);
    expect(existsSync(copy.dir.incoming)).toBe(false);
    expect(JSON.parse(readFileSync(copy.dir.definition, 'utf8'))).toMatchObject({
      name: 'web-1',
      uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
      argv,
      owner: 'ops',
    });
    expect(place.directories().sort()).toEqual(result.moves.map((move) => `${move.destination}/${move.vm}`).sort());
  });
});
