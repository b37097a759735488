/** The client against real QEMU. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { connectQmp } from '../../../../src/hypervisors/qemu/qmp/client.ts';
import type { Qmp, QmpEvent } from '../../../../src/hypervisors/qemu/qmp/qmp.ts';
import { until } from '../../../support/condition.ts';
import { describeWith } from '../../../support/needs.ts';

const nothing = z.object({});
const status = z.object({ status: z.string(), running: z.boolean() });
const unreachable = (message: RegExp) => ({ code: 'hostUnreachable', message: expect.stringMatching(message) });

describeWith(['qemu'], 'QMP of a real QEMU', () => {
  let directory: string;
  let path: string;
  let qemu: ChildProcess;
  let clients: Qmp[];

  /** QEMU without a guest: it has everything but something to run. */
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'hostevac-qmp-'));
    path = join(directory, 'qmp.sock');
    clients = [];
    const machine = ['-accel', 'tcg', '-m', '16', '-nodefaults', '-display', 'none', '-S'];
    const pretty = [
      '-chardev',
      `socket,id=p,path=${path}.pretty,server=on,wait=off`,
      '-mon',
      'p,mode=control,pretty=on',
    ];
    qemu = spawn('qemu-system-x86_64', [...machine, '-qmp', `unix:${path},server=on,wait=off`, ...pretty], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await until(greets, 20_000, 'QEMU greets');
  });

  afterEach(async () => {
    for (const client of clients) client.close();
    await kill();
    rmSync(directory, { recursive: true, force: true });
  });

  async function greets(): Promise<boolean> {
    try {
      (await connectQmp(path)).close();
      return true;
    } catch {
      return false;
    }
  }

  async function open(timeoutMs = 3000): Promise<Qmp> {
    const client = await connectQmp(path, { timeoutMs });
    clients.push(client);
    return client;
  }

  async function kill(): Promise<void> {
    if (qemu.exitCode !== null || qemu.signalCode !== null) return;
    const ended = once(qemu, 'exit');
    qemu.kill('SIGKILL');
    await ended;
  }

  /** A signal stops one thread after the other. */
  async function stop(): Promise<void> {
    qemu.kill('SIGSTOP');
    const tasks = `/proc/${qemu.pid}/task`;
    const stopped = (): boolean =>
      readdirSync(tasks).every((task) => /\) T /.test(readFileSync(`${tasks}/${task}/stat`, 'utf8')));
    await until(stopped, 5000, 'every thread of QEMU stands still');
  }

  test('greets, answers, refuses in its own words, and goes on', async () => {
    const qmp = await open();
    expect(qmp.greeting.version.major).toBeGreaterThanOrEqual(9);
    expect(qmp.greeting.capabilities).toContain('oob');
    expect(await qmp.execute('query-status', status)).toEqual({ status: 'prelaunch', running: false });
    await expect(qmp.execute('migrate', nothing, { uri: 'nonsense:' })).rejects.toMatchObject({
      code: 'hypervisorRefused',
      message: expect.stringMatching(/qmp\.sock refused migrate: GenericError: .*nonsense/),
    });
    await expect(qmp.execute('no-such', nothing)).rejects.toThrow(/refused no-such: CommandNotFound: /);
    const many = await Promise.all(Array.from({ length: 60 }, () => qmp.execute('query-status', status)));
    expect(many.every(({ running }) => !running)).toBe(true);
  });

  test('tells of a guest that goes on and stops', async () => {
    const qmp = await open();
    const events: QmpEvent[] = [];
    qmp.onEvent((event) => events.push(event));
    const startedMs = Date.now();
    await qmp.execute('cont', nothing);
    await qmp.execute('stop', nothing);
    await until(() => events.length >= 2, 5000, 'two events');
    expect(events.map(({ name }) => name)).toEqual(['RESUME', 'STOP']);
    for (const { atMs } of events) expect(Math.abs(atMs - startedMs)).toBeLessThan(60_000);
  });

  test('gives its longest answer', async () => {
    const qmp = await open();
    const schema = await qmp.execute('query-qmp-schema', z.array(z.object({ name: z.string() })));
    expect(schema.length).toBeGreaterThan(500);
    expect(JSON.stringify(schema).length).toBeGreaterThan(10_000);
  });

  test('serves one client at a time: the others wait, also those that its backlog of one has no room for', async () => {
    const first = await open();
    await expect(open(200)).rejects.toMatchObject(
      unreachable(/no greeting came.*another one probably holds the socket/),
    );
    let greeted = 0;
    const waiting = [1, 2, 3, 4].map(async () => {
      const client = await connectQmp(path, { timeoutMs: 10_000 });
      greeted += 1;
      const answer = await client.execute('query-status', status);
      client.close();
      return answer.status;
    });
    await first.execute('query-status', status);
    expect(greeted).toBe(0);
    first.close();
    expect(await Promise.all(waiting)).toEqual(Array(4).fill('prelaunch'));
  });

  test('a backlog that stays full is said to be that', async () => {
    await open();
    const waiting = Promise.allSettled([open(1500), open(1500)]);
    await expect(open(300)).rejects.toMatchObject(unreachable(/too many clients wait for it already/));
    expect((await waiting).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });

  test('sends a late answer to whoever comes next, who does not take it for its own', async () => {
    const fifo = join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const gone = await open();
    // Writing to a pipe that nobody reads: the main loop stands still, while greetings come from another thread.
    const hanging = gone.execute('pmemsave', nothing, { val: 0, size: 4096, filename: fifo }, { timeoutMs: 200 });
    await expect(hanging).rejects.toMatchObject(unreachable(/did not answer pmemsave within 200 ms/));
    expect(gone.closed).toBe(true);
    const next = open(10_000);
    // The answer to pmemsave comes while `next` negotiates.
    expect(readFileSync(fifo).length).toBe(4096);
    expect(await (await next).execute('query-status', status)).toEqual({ status: 'prelaunch', running: false });
  });

  test('a QEMU that is killed in the middle of a command is gone at once', async () => {
    const qmp = await open();
    await stop();
    const asked = qmp.execute('query-status', status, {}, { timeoutMs: 20_000 });
    const heard = expect(asked).rejects.toMatchObject(unreachable(/query-status was not answered: it may or may not/));
    const start = performance.now();
    await kill();
    await heard;
    expect(performance.now() - start).toBeLessThan(5000);
    await expect(open()).rejects.toMatchObject(unreachable(/nobody listens at .*: the QEMU that made it has ended/));
  });

  test('a stopped QEMU greets nobody', async () => {
    await stop();
    await expect(open(300)).rejects.toMatchObject(unreachable(/no greeting came within .* or QEMU itself is stopped/));
    qemu.kill('SIGCONT');
    await open();
  });

  test('an answer that came while we stood still past its time limit is an answer', async () => {
    const qmp = await open();
    const asked = qmp.execute('query-status', status, {}, { timeoutMs: 100 });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
    expect((await asked).running).toBe(false);
  });

  test('a monitor with pretty=on is named as such', async () => {
    await expect(connectQmp(`${path}.pretty`)).rejects.toMatchObject(unreachable(/pretty=on/));
  });
});
