/** What hostevac finds and has not made: a second running copy of a VM, a migration that somebody else has started. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { anyAnswer, migrateAnswer } from '../../src/hypervisors/qemu/answers.ts';
import { isAlive, startProcess } from '../../src/hypervisors/qemu/process.ts';
import { readDefinition } from '../../src/hypervisors/qemu/vm-file.ts';
import type { Command } from '../cli/spawn.ts';
import { asking, type Copy, LabPlace } from '../lab/place.ts';
import { expectQuotasAsBefore } from '../lab/quotas.ts';
import { moveOf, resultOf } from '../lab/results.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
/** An idle guest has 32 MiB: eight seconds alone. */
const EGRESS = 4 * MIB;
const HOSTS = ['lab-a', 'lab-b'];
const parametersAnswer = z.looseObject({ 'max-bandwidth': z.number() });

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'two running copies of one VM', () => {
  let place: LabPlace;
  let up: Command;
  beforeEach(async () => {
    place = new LabPlace();
    await place.lab({ hosts: 2, profiles: ['idle'], egressBytesPerSec: EGRESS });
    up = await place.startUp();
  });
  afterEach(() => place.close());

  /** Ends the waiting copy and runs the same VM, started from its image, in its place. */
  async function runSecond(source: Copy, waiting: Copy): Promise<Copy> {
    const definition = readDefinition(source.dir.definition);
    if (definition === undefined) throw new Error('no definition');
    process.kill(waiting.pid, 'SIGKILL');
    await until(() => !isAlive(waiting), 5_000, 'end of the waiting copy');
    for (const file of [waiting.dir.monitor, waiting.dir.spare, waiting.dir.pid]) rmSync(file, { force: true });
    const sockets = [waiting.dir.monitor, waiting.dir.spare].flatMap((path) => [
      '-qmp',
      `unix:${path},server=on,wait=off`,
    ]);
    const { process: started } = await startProcess({
      binary: definition.binary,
      argv: [...definition.argv, ...sockets],
      cwd: place.home,
      logPath: join(place.home, 'second.log'),
      networkNamespace: null,
    });
    await until(async () => (await place.stateOf(waiting).catch(() => '')) === 'running', 20_000, 'a second copy');
    return { ...waiting, ...started };
  }

  async function expectHalted(id: string, source: Copy, second: Copy): Promise<void> {
    const ended = await place.run('watch', id, '--timeout', '90s', '-o', 'json');
    const result = resultOf(ended);
    expect(ended.code, place.said()).toBe(1);
    expect(result.state).toBe('failed');
    const eyes = await place.eyes();
    const moves = await eyes.moves(id, 'idle-1');
    expect(moves).toHaveLength(1);
    expect(moves[0]).toMatchObject({ step: 'halted', state: 'failed', reason: { code: 'vmDoubled' } });
    const { reason } = moveOf(result, 'idle-1');
    console.log(`it says: ${reason}`);
    expect(reason).toContain('TWO RUNNING COPIES');
    expect(reason).toContain('lab-a has it running');
    expect(reason).toContain('lab-b has it running');
    expect((await eyes.operation(id)).reason?.code).toBe('vmDoubled');
    const told = ended.stderr + (await place.run('status', id)).stdout;
    expect(told).toContain('TWO RUNNING COPIES');

    for (const copy of [source, second]) {
      expect(isAlive(copy)).toBe(true);
      expect(await place.stateOf(copy)).toBe('running');
      await place.goesOn(copy);
    }
    expect(place.copies('idle-1')).toHaveLength(2);
    expect(place.directories().sort()).toEqual(['lab-a/idle-1', 'lab-b/idle-1']);
    expectQuotasAsBefore(place.quotasBefore, ['idle-1'], HOSTS);

    // Asked again, it sees the same and does the same.
    const again = await place.run('evacuate', 'lab-a', '--wait', '--timeout', '60s', '-o', 'json');
    expect(again.code).toBe(4);
    expect(resultOf(again)).toMatchObject({ state: 'blocked', moves: [], blocked: [{ vm: 'idle-1' }] });
    expect(resultOf(again).blocked[0]?.reason).toContain('RUNS TWICE, on lab-a and lab-b');
    for (const copy of [source, second]) expect(isAlive(copy)).toBe(true);
  }

  async function midCopy(id: string): Promise<{ source: Copy; waiting: Copy }> {
    await (await place.eyes()).untilStep(id, 'idle-1', 'precopy', 30_000);
    const source = place.copies('idle-1').find(({ host }) => host === 'lab-a');
    const waiting = place.copies('idle-1').find(({ host }) => host === 'lab-b');
    if (source === undefined || waiting === undefined) throw new Error('no two ends');
    await place.untilSent(source, 2 * MIB, 20_000);
    return { source, waiting };
  }

  test('while one is being copied: everything stops, nothing is ended, and the error says what was seen where', async () => {
    const id = await place.evacuate('lab-a');
    const { source, waiting } = await midCopy(id);
    // Both are there before anybody looks.
    up.child.kill('SIGSTOP');
    const second = await runSecond(source, waiting);
    up.child.kill('SIGCONT');
    await expectHalted(id, source, second);
  });

  test('found by a worker that was started again: everything stops, nothing is ended, and the error says so', async () => {
    const id = await place.evacuate('lab-a');
    const { source, waiting } = await midCopy(id);
    up.signalGroup('SIGKILL');
    await up.ended;
    const second = await runSecond(source, waiting);
    up = await place.startUp();
    await expectHalted(id, source, second);
  });
});

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'a migration that somebody else has started', () => {
  let place: LabPlace;
  beforeEach(async () => {
    place = new LabPlace();
    await place.lab({ hosts: 2, profiles: ['idle', 'idle'] });
  });
  afterEach(() => place.close());

  test('is left alone and reported; the other guest moves', async () => {
    const source = place.only('idle-1');
    const migration = () => asking(source.dir.spare, (qmp) => qmp.execute('query-migrate', migrateAnswer));
    await asking(source.dir.spare, async (qmp) => {
      await qmp.execute('migrate-set-parameters', anyAnswer, { 'max-bandwidth': MIB / 4 });
      await qmp.execute('migrate', anyAnswer, { uri: 'exec:cat >/dev/null' });
    });
    await until(async () => (await migration()).status === 'active', 10_000, 'their migration');
    await place.startUp();

    const ended = await place.run('evacuate', 'lab-a', '--wait', '--timeout', '60s', '-o', 'json');
    const result = resultOf(ended);
    expect(ended.code, place.said()).toBe(3);
    expect(result.state).toBe('partial');
    expect(moveOf(result, 'idle-2')).toMatchObject({ state: 'done', destination: 'lab-b' });
    const said = [...result.blocked.map(({ vm, reason }) => `${vm} ${reason}`), moveOf(result, 'idle-1').reason].join();
    console.log(`it says: ${said}`);
    expect(said).toMatch(/idle-1.*migration.*left alone/);

    const theirs = await migration();
    expect(theirs.status).toBe('active');
    const { 'max-bandwidth': bandwidth } = await asking(source.dir.spare, (qmp) =>
      qmp.execute('query-migrate-parameters', parametersAnswer),
    );
    expect(bandwidth).toBe(MIB / 4);
    expect(place.only('idle-1')).toEqual(source);
    await asking(source.dir.spare, (qmp) => qmp.execute('migrate_cancel', anyAnswer));
    await until(async () => (await migration()).status === 'cancelled', 10_000, 'the end of their migration');

    // Then it is a VM like any other.
    const after = await place.run('evacuate', 'lab-a', '--wait', '--timeout', '60s', '-o', 'json');
    expect(after.code, place.said()).toBe(0);
    const copy = place.only('idle-1');
    expect(copy.host).toBe('lab-b');
    expect((await place.check(copy)).faults).toEqual([]);
  });
});
