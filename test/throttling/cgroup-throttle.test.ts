/** What the throttle believes of a guard that it cannot ask. The guest is this process. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RealClock } from '../../src/clock/real-clock.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import { thisProcess } from '../../src/runtime/process-identity.ts';
import { CgroupThrottle } from '../../src/throttling/cgroup-throttle.ts';
import { GuardClient } from '../../src/throttling/guard/client.ts';
import type { Look } from '../../src/throttling/guard/protocol.ts';

const target = { host: 'a', vm: 'busy' };

/** Says what it is told to; `null`: it does not answer. */
class Guard extends GuardClient {
  says: Look | null = null;

  override async look(): Promise<Look> {
    if (this.says === null) throw new HostevacError('throttleUnavailable', 'the guard does not answer');
    return this.says;
  }
}

let stateDir: string;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'hostevac-throttle-'));
});
afterEach(() => rmSync(stateDir, { recursive: true }));

test('a guest whose guard falls silent is as throttled as the guard said last', async () => {
  const { pid, startTicks } = thisProcess();
  const guard = new Guard({ stateDir, log: () => undefined });
  const vcpuThreadsOf = async () => ({ pid, startTicks, tids: [pid] });
  const throttle = new CgroupThrottle({ guard, vcpuThreadsOf, clock: new RealClock(), log: () => undefined });
  expect(await throttle.guestCpu(target)).toMatchObject({ share: 1 });
  guard.says = { throttle: { share: 0.4, demandCores: 1, cores: 0.4 }, sinceMs: null };
  expect(await throttle.guestCpu(target)).toMatchObject({ share: 0.4, demandCores: 1 });
  guard.says = null;
  expect(await throttle.guestCpu(target)).toMatchObject({ share: 0.4, demandCores: 1 });
  guard.says = { throttle: null, sinceMs: null };
  expect(await throttle.guestCpu(target)).toMatchObject({ share: 1 });
});
