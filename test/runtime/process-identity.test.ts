import { type ChildProcess, spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { isDeadHere, parseProcessStat, startTicksOf, thisProcess } from '../../src/runtime/process-identity.ts';
import { until } from '../support/condition.ts';

describe('process identity', () => {
  const children: ChildProcess[] = [];
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });
  const running = (program: string, args: string[]): ChildProcess => {
    const child = spawn(program, args, { stdio: 'ignore' });
    children.push(child);
    return child;
  };
  const ownerOf = (pid: number) => ({ ...thisProcess(), pid, startTicks: startTicksOf(pid) ?? -1 });

  test('a process name with spaces and parentheses does not shift the fields', () => {
    const tail = `S ${Array.from({ length: 18 }, (_, n) => n + 4).join(' ')} 987654 1 2 3`;
    for (const comm of ['node', 'a b', 'x) Z 1 2', ') R (', '((']) {
      expect(parseProcessStat(`4711 (${comm}) ${tail}\n`)).toEqual({ state: 'S', startTicks: 987_654 });
    }
    expect(parseProcessStat('')).toBeUndefined();
    expect(parseProcessStat('12 (cat) S 1 2')).toBeUndefined();
  });

  test('this process is the same all the time, and alive', () => {
    const self = thisProcess();
    expect(thisProcess()).toBe(self);
    expect(self.pid).toBe(process.pid);
    expect(self.startTicks).toBeGreaterThan(0);
    expect(self.machine).toContain(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    expect(isDeadHere(self)).toBe(false);
  });

  test('a child is alive while it runs, stopped or not, and dead when it has ended', async () => {
    const child = running('sleep', ['1000']);
    const owner = ownerOf(child.pid ?? 0);
    expect(owner.startTicks).toBeGreaterThan(0);
    expect(isDeadHere(owner)).toBe(false);
    child.kill('SIGSTOP');
    expect(isDeadHere(owner)).toBe(false);
    child.kill('SIGKILL');
    await until(() => isDeadHere(owner), 5_000);
  });

  test('a process of another start time with the same pid is not the owner', () => {
    const child = running('sleep', ['1000']);
    const owner = ownerOf(child.pid ?? 0);
    expect(isDeadHere({ ...owner, startTicks: owner.startTicks - 1 })).toBe(true);
  });

  test('a zombie is dead', async () => {
    // The shell becomes a program that never collects its child.
    const parent = spawn('sh', ['-c', 'sleep 0.05 & echo $!; exec sleep 1000'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    children.push(parent);
    const pid = await new Promise<number>((resolve) => {
      parent.stdout.once('data', (data: Buffer) => resolve(Number(data.toString())));
    });
    const owner = ownerOf(pid);
    await until(() => parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.state === 'Z', 5_000);
    expect(isDeadHere(owner)).toBe(true);
  });

  test('a real process whose name holds parentheses is recognised', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hostevac-comm-'));
    const program = join(directory, 'a) Z (b');
    copyFileSync('/bin/sleep', program);
    const child = running(program, ['1000']);
    await until(() => readFileSync(`/proc/${child.pid}/comm`, 'utf8').includes(') Z ('), 5_000);
    const owner = ownerOf(child.pid ?? 0);
    expect(owner.startTicks).toBeGreaterThan(0);
    expect(isDeadHere(owner)).toBe(false);
    rmSync(directory, { recursive: true });
  });

  test('of a process on another machine nothing is known', () => {
    expect(isDeadHere({ machine: 'another', pid: 2 ** 22 + 1, startTicks: 1 })).toBe(false);
    expect(isDeadHere({ machine: thisProcess().machine, pid: 2 ** 22 + 1, startTicks: 1 })).toBe(true);
  });
});
