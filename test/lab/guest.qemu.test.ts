/** The lab's guest on real QEMU: it does what its parameters say, and whatever is wrong with its memory is seen. */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { cpusAnswer } from '../../src/hypervisors/qemu/answers.ts';
import { startProcess, threadCpuMs } from '../../src/hypervisors/qemu/process.ts';
import { connectQmp } from '../../src/hypervisors/qemu/qmp/client.ts';
import type { Qmp } from '../../src/hypervisors/qemu/qmp/qmp.ts';
import { checkMemory, readParameters, readState } from '../../src/lab/guest/inspect.ts';
import { BASE, type GuestParameters, guestImage, PAGE_BYTES } from '../../src/lab/guest/layout.ts';
import { probeMachine, QEMU, qemuVersion } from '../../src/lab/guests.ts';
import { endProcesses, qemusOf } from '../../src/lab/processes.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
const GUEST: GuestParameters = {
  pattern: 'sweep',
  unpaced: false,
  tickHz: 100,
  delayLoops: 0,
  secondLoops: 1,
  touchedBytes: 16 * MIB,
  phases: [{ ticks: 1_000_000_000, pagesPerTick: 10, workingSetBytes: 8 * MIB }],
};
const anything = z.unknown();

describeWith(['qemu'], "the lab's guest", () => {
  let place = '';
  const open: Qmp[] = [];

  beforeEach(() => {
    place = mkdtempSync('/tmp/hevlab-test-');
  });
  afterEach(async () => {
    for (const qmp of open.splice(0)) qmp.close();
    await endProcesses(qemusOf(place));
    rmSync(place, { recursive: true, force: true });
  });

  /** Its memory is a file, so that a test can change it as a bad migration would. */
  async function start(parameters: GuestParameters, vcpus = 1): Promise<Qmp> {
    writeFileSync(join(place, 'image'), guestImage(parameters));
    const memory = `memory-backend-file,id=ram,size=64M,mem-path=${join(place, 'ram')},share=on`;
    await startProcess({
      binary: QEMU,
      argv: [
        ...['-accel', 'tcg', '-smp', String(vcpus), '-m', '64', '-object', memory, '-machine', 'memory-backend=ram'],
        ...['-nodefaults', '-display', 'none', '-no-reboot'],
        ...['-drive', `file=${join(place, 'image')},format=raw,if=ide,snapshot=on`],
        ...['-qmp', `unix:${join(place, 'q')},server=on,wait=off`],
      ],
      cwd: place,
      logPath: join(place, 'log'),
      networkNamespace: null,
    });
    let qmp: Qmp | undefined;
    await until(async () => {
      qmp ??= await connectQmp(join(place, 'q')).catch(() => undefined);
      return qmp !== undefined && (await readState(qmp)).booted;
    }, 30_000);
    if (qmp === undefined) throw new Error('no monitor');
    open.push(qmp);
    return qmp;
  }

  const page = (index: number): number => BASE + index * PAGE_BYTES;

  function readWord(address: number): number {
    const file = openSync(join(place, 'ram'), 'r');
    const word = Buffer.alloc(4);
    readSync(file, word, 0, 4, address);
    closeSync(file);
    return word.readUInt32LE(0);
  }

  function writeMemory(address: number, bytes: Buffer): void {
    const file = openSync(join(place, 'ram'), 'r+');
    writeSync(file, bytes, 0, bytes.length, address);
    closeSync(file);
  }

  async function writesFrom(qmp: Qmp, writes: number): Promise<void> {
    const { progress } = await readState(qmp);
    await until(async () => (await readState(qmp)).progress >= progress + writes, 30_000, `${writes} more writes`);
  }

  test('says what it was started with, and its memory is whole while it writes', async () => {
    const qmp = await start(GUEST);
    await writesFrom(qmp, 5_000);
    expect(await readParameters(qmp)).toEqual(GUEST);
    const report = await checkMemory(qmp, place);
    expect(report).toMatchObject({ pages: 4_096, wrongPages: 0, faults: [] });
    expect(report.progress).toBeGreaterThanOrEqual(5_000);
    expect((await readState(qmp)).sweeps).toBeGreaterThanOrEqual(2);
    // It goes on after the check.
    await writesFrom(qmp, 100);
  });

  test('writes what its timer says, not what its CPU could', async () => {
    const qmp = await start(GUEST);
    const before = await readState(qmp);
    await writesFrom(qmp, 2_000);
    await qmp.execute('stop', anything);
    const after = await readState(qmp);
    const perTick = (after.progress - before.progress) / (after.ticks - before.ticks);
    // A tick that comes while the machine is busy elsewhere is not made up for.
    expect(perTick).toBeGreaterThan(5);
    expect(perTick).toBeLessThan(10.5);
  });

  test('at random reaches all of its working set and nothing else', async () => {
    const qmp = await start({ ...GUEST, pattern: 'random', unpaced: true });
    // 2,048 pages: after 15 writes for each, the chance that one was left out is below 1 in 1,000.
    await writesFrom(qmp, 15 * 2_048);
    await qmp.execute('stop', anything);
    const counts = Array.from({ length: 4_096 }, (_, index) => readWord(page(index)));
    expect(counts.slice(0, 2_048).filter((count) => count === 0)).toHaveLength(0);
    expect(counts.slice(2_048).filter((count) => count !== 0)).toHaveLength(0);
    expect((await checkMemory(qmp, place)).faults).toEqual([]);
    // It was not running when it was checked, so it is not now.
    expect(await qmp.execute('query-status', z.looseObject({ running: z.boolean() }))).toMatchObject({
      running: false,
    });
  });

  test('goes through its phases again and again', async () => {
    const qmp = await start({
      ...GUEST,
      phases: [
        { ticks: 20, pagesPerTick: 0, workingSetBytes: MIB },
        { ticks: 20, pagesPerTick: 100, workingSetBytes: 2 * MIB },
        { ticks: 10, pagesPerTick: 1, workingSetBytes: MIB },
      ],
    });
    const before = await readState(qmp);
    await until(async () => (await readState(qmp)).ticks >= before.ticks + 250, 30_000);
    const after = await readState(qmp);
    // 2,010 writes a round, at most one phase more at either end, and less where the machine is busy elsewhere.
    const rounds = (after.ticks - before.ticks) / 50;
    expect(after.progress - before.progress).toBeLessThan(rounds * 2_010 + 2_100);
    expect(after.progress - before.progress).toBeGreaterThan((rounds * 2_010 - 2_100) / 2);
    expect((await checkMemory(qmp, place)).faults).toEqual([]);
    expect(readWord(page(600))).toBe(0);
  });

  test('wakes a second CPU at every tick, which computes and writes nothing', async () => {
    // So many that it never comes to their end before the next tick: the second CPU is always busy.
    const qmp = await start({ ...GUEST, secondLoops: 2 ** 30 }, 2);
    const [first, second] = (await qmp.execute('query-cpus-fast', cpusAnswer)).map((cpu) => cpu['thread-id']);
    const usedMs = (tid: number | undefined): number => threadCpuMs(tid ?? 0, tid ?? 0) ?? 0;
    const before = [usedMs(first), usedMs(second)] as const;
    await writesFrom(qmp, 1_000);
    // The first one writes ten pages in a tick and halts.
    await until(() => usedMs(second) - before[1] > 10 * (usedMs(first) - before[0]), 30_000, 'the second to be busy');
    const report = await checkMemory(qmp, place);
    expect(report).toMatchObject({ wrongPages: 0, faults: [] });
  });

  test('a page that was lost, is another one, came back old or torn: each is seen', async () => {
    const qmp = await start(GUEST);
    await writesFrom(qmp, 3_000);
    await qmp.execute('stop', anything);
    const faultsOf = async (at: number, bytes: Buffer): Promise<readonly string[]> => {
      const whole = Buffer.alloc(bytes.length);
      const file = openSync(join(place, 'ram'), 'r');
      readSync(file, whole, 0, whole.length, at);
      closeSync(file);
      writeMemory(at, bytes);
      const { faults } = await checkMemory(qmp, place);
      writeMemory(at, whole);
      return faults;
    };
    const stale = Buffer.alloc(4);
    const count = readWord(page(5));
    stale.writeUInt32LE(count - 1);
    expect(await faultsOf(page(3_000), Buffer.alloc(PAGE_BYTES))).toEqual([
      expect.stringMatching(/^page 0xcb8000 has 0x0 at 16, not 0x/),
    ]);
    expect(await faultsOf(page(5) + 0x410, Buffer.from([1, 2, 3, 4]))).toEqual([
      expect.stringMatching(/^page 0x105000 has 0x4030201 at 1040/),
    ]);
    // Torn: its end is older by two than its beginning.
    const torn = Buffer.alloc(4);
    torn.writeUInt32LE(Math.max(0, count - 2));
    expect((await faultsOf(page(5) + 0xffc, torn))[0]).toMatch(/^page 0x105000 counts \d+ writes at its start/);
    // Old: an earlier version of the page, consistent in itself.
    writeMemory(page(5) + 0xffc, stale);
    expect(await faultsOf(page(5), stale)).toEqual([
      expect.stringMatching(/the pages count \d+ writes, the guest \d+/),
    ]);
  });

  test('this machine is measured: it has an accelerator that runs guests, and a speed', async () => {
    const version = await qemuVersion(process.env['PATH']);
    const machine = await probeMachine('auto', version, join(place, 'probe'), new AbortController().signal);
    expect(machine.loopsPerCpuSec).toBeGreaterThan(10e6);
    const old = { major: 8, text: '8.2.9' };
    await expect(probeMachine('tcg', old, join(place, 'probe'), new AbortController().signal)).rejects.toThrow(
      /8\.2\.9 without KVM loses dirty pages.*install 9\.0/,
    );
  });
});
