/** A migration that waits for its last word gets it, whatever became of its worker. Real QEMU, real guard. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { connectQmp } from '../../src/hypervisors/qemu/qmp/client.ts';
import type { Qmp } from '../../src/hypervisors/qemu/qmp/qmp.ts';
import { GuardClient } from '../../src/throttling/guard/client.ts';
import { STALE_MS } from '../../src/throttling/guard/protocol.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { GUARD_ENTRY, Place } from './place.ts';

/** A gate is looked at this long after its worker has gone, at the latest. */
const GONE_MS = 1_000;
const migrationSchema = z.object({ status: z.string().optional() });

describeWith(['qemu'], 'gates', () => {
  let place: Place;
  let qemu: ChildProcess;
  let qmp: Qmp;
  let spare: string;
  let operator: GuardClient;

  const status = async () => (await qmp.execute('query-migrate', migrationSchema)).status ?? 'none';
  const waits = () => until(async () => (await status()) === 'pre-switchover', 10_000, 'pre-switchover');
  const wentOn = (limitMs: number) => until(async () => (await status()) === 'completed', limitMs, 'completed');
  const gates = async () => (await operator.status()).gates;

  beforeEach(async () => {
    place = new Place();
    operator = new GuardClient({ stateDir: place.stateDir, log: () => undefined, entry: GUARD_ENTRY });
    spare = join(place.stateDir, 'spare.sock');
    const own = join(place.stateDir, 'own.sock');
    const monitors = [own, spare].flatMap((path) => ['-qmp', `unix:${path},server=on,wait=off`]);
    // Firmware that finds nothing to boot is guest enough.
    qemu = spawn('qemu-system-x86_64', ['-nodefaults', '-display', 'none', '-accel', 'tcg', '-m', '32', ...monitors], {
      stdio: 'ignore',
    });
    await until(
      async () => {
        qmp = await connectQmp(own).catch(() => qmp);
        return qmp !== undefined && !qmp.closed;
      },
      10_000,
      'QMP',
    );
    await qmp.execute('migrate-set-capabilities', z.unknown(), {
      capabilities: [{ capability: 'pause-before-switchover', state: true }],
    });
  });
  afterEach(async () => {
    await operator.close();
    qmp.close();
    qemu.kill('SIGKILL');
    await place.close();
  });
  const migrate = async () => {
    await qmp.execute('migrate', z.unknown(), { uri: 'exec:cat >/dev/null' });
    await waits();
  };

  test('a worker that lives is waited for, one that is killed is not', async () => {
    const worker = place.worker({});
    await worker.call('gate', 'a', 'vm', spare);
    await migrate();
    await abortableSleep(STALE_MS + 1_000);
    expect(await status()).toBe('pre-switchover');
    worker.signalGroup('SIGKILL');
    await wentOn(GONE_MS);
    await until(async () => (await gates()).length === 0, 2_000, 'no gate');
  });

  test('nor is one that hangs', async () => {
    const worker = place.worker({});
    await worker.call('gate', 'a', 'vm', spare);
    await migrate();
    worker.signalGroup('SIGSTOP');
    await wentOn(STALE_MS + GONE_MS);
  });

  test('a worker that dies before the migration waits: it goes on when it does', async () => {
    const worker = place.worker({});
    await worker.call('gate', 'a', 'vm', spare);
    // Slow enough to be killed in the middle.
    await qmp.execute('migrate-set-parameters', z.unknown(), { 'max-bandwidth': 1_000_000 });
    await qmp.execute('migrate', z.unknown(), { uri: 'exec:cat >/dev/null' });
    worker.signalGroup('SIGKILL');
    await until(() => worker.ended, 2_000, 'end of the worker');
    expect(await status()).toMatch(/setup|active/);
    await wentOn(30_000);
  });

  test('nor is one that beats but has abandoned its gate, until it opens it again', async () => {
    const worker = place.worker({});
    await worker.call('gate', 'a', 'vm', spare);
    await worker.call('abandon', 'a', 'vm');
    await worker.call('gate', 'a', 'vm', spare);
    await migrate();
    await abortableSleep(STALE_MS);
    expect(await status()).toBe('pre-switchover');
    await worker.call('abandon', 'a', 'vm');
    await wentOn(GONE_MS);
    await until(async () => (await gates()).length === 0, 2_000, 'no gate');
  });

  test('a worker whose guard is killed keeps its gate; when both are, the next guard gives the word', async () => {
    const worker = place.worker({});
    await worker.call('gate', 'a', 'vm', spare);
    await migrate();
    const [first = 0] = place.guards();
    process.kill(first, 'SIGKILL');
    await until(() => place.guards().some((pid) => pid !== first), 3_000, 'the next guard');
    await abortableSleep(STALE_MS + 1_000);
    expect(await status()).toBe('pre-switchover');
    const [second = 0] = place.guards();
    process.kill(second, 'SIGSTOP');
    worker.signalGroup('SIGKILL');
    process.kill(second, 'SIGKILL');
    await until(() => worker.ended && place.guards().length === 0, 2_000, 'both ended');
    await place.worker({}).call('recover');
    await wentOn(STALE_MS + GONE_MS);
  });

  test('a closed gate is no business of the guard; one whose QEMU has ended is forgotten', async () => {
    const worker = place.worker({});
    await worker.call('gate', 'a', 'vm', spare);
    await worker.call('gate', 'a', 'other', join(place.stateDir, 'none.sock'));
    await migrate();
    await worker.call('ungate', 'a', 'vm');
    worker.signalGroup('SIGKILL');
    await until(async () => (await gates()).length === 0, 3_000, 'no gate');
    expect(await status()).toBe('pre-switchover');
  });
});
