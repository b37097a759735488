/** Ending exactly the process that is meant, also when it is stopped. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { endProcess } from '../../src/runtime/end-process.ts';
import { isDeadHere, startTicksOf, thisProcess } from '../../src/runtime/process-identity.ts';
import { until } from '../support/condition.ts';

async function sleeper() {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const pid = child.pid ?? 0;
  return { child, owner: { machine: thisProcess().machine, pid, startTicks: startTicksOf(pid) ?? 0 } };
}

describe('ending a process', () => {
  test('a stopped process is gone when it returns', async () => {
    const { child, owner } = await sleeper();
    child.kill('SIGSTOP');
    expect(await endProcess(owner)).toBe(true);
    expect(isDeadHere(owner)).toBe(true);
    expect(await endProcess(owner)).toBe(true);
  });

  test('another process with the same pid, and one of another machine, are left alone', async () => {
    const { child, owner } = await sleeper();
    expect(await endProcess({ ...owner, startTicks: owner.startTicks - 1 })).toBe(true);
    const here = thisProcess().machine;
    expect(await endProcess({ ...owner, machine: 'elsewhere' })).toBe(false);
    expect(await endProcess({ ...owner, machine: `${here.split('/')[0]}/pid:[1]/none` })).toBe(false);
    // Before a reboot, or on another machine: it reaches nothing here.
    expect(await endProcess({ ...owner, machine: '00000000-0000-4000-8000-000000000000/pid:[1]/none' })).toBe(true);
    expect(isDeadHere(owner)).toBe(false);
    child.kill('SIGKILL');
    await until(() => isDeadHere(owner), 5_000);
  });
});
