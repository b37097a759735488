/** The commands as a user meets them: one fleet, `up` in one terminal, requests in another. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { predictionSchema } from '../../src/domain/prediction.ts';
import { startTicksOf } from '../../src/runtime/process-identity.ts';
import { until } from '../support/condition.ts';
import { smallFleet } from './small-fleet.ts';
import { Command, type Ended, userEnv } from './spawn.ts';

let home = '';
const started: Command[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'hostevac-test-'));
  await writeFile(join(home, 'fleet.yaml'), smallFleet());
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((command) => command.kill()));
  await rm(home, { recursive: true, force: true });
});

function start(...args: string[]): Command {
  const command = new Command(args, { env: userEnv(home), cwd: home });
  started.push(command);
  return command;
}
const run = (...args: string[]): Promise<Ended> => start(...args).ended;

async function startUp(): Promise<{ up: Command; url: string }> {
  const up = start('up', '--port', '0');
  await up.says(/^http:\/\/127\.0\.0\.1:\d+\n/);
  return { up, url: up.stdout.trim() };
}

const operationResult = z.strictObject({
  id: z.string(),
  kind: z.literal('evacuateNode'),
  state: z.string(),
  host: z.string(),
  makespanMs: z.number(),
  empty: z.literal(true),
  shutdowns: z.array(z.never()),
  skipped: z.array(z.never()),
  moves: z.array(
    z.strictObject({
      vm: z.string(),
      source: z.string(),
      destination: z.string(),
      state: z.string(),
      attempts: z.number(),
      totalMs: z.number().positive(),
      downtimeMs: z.number().positive(),
      transferredBytes: z.number().positive(),
      minShare: z.number(),
      meanShare: z.number(),
      harmCpuMs: z.number(),
      predicted: z
        .strictObject({
          totalMs: z.number(),
          downtimeMs: z.number(),
          harmCpuMs: z.number(),
          intervals: predictionSchema,
        })
        .nullable(),
      predictionError: z
        .strictObject({ totalMs: z.number(), downtimeMs: z.number(), harmCpuMs: z.number() })
        .nullable(),
      relaxed: z.array(z.unknown()),
      reason: z.string().nullable(),
    }),
  ),
  blocked: z.array(z.strictObject({ vm: z.string(), reason: z.string() })),
});
const accepted = z.object({ id: z.string(), acceptance: z.string(), workersAlive: z.boolean() });

describe('an evacuation', () => {
  it('is followed line by line, ends with a summary, and a second one finds the host empty', async () => {
    await startUp();
    const first = await run('evacuate', 'node-a', '--wait');
    expect(first.code).toBe(0);
    for (const vm of ['db-1', 'web-1', 'web-2']) {
      expect(first.stdout).toMatch(new RegExp(`^\\S+Z move\\.done op=\\S+ vm=${vm} .*msg="`, 'm'));
    }
    expect(first.stdout).toContain('node-a is empty: 3 VMs moved in ');
    const second = await run('evacuate', 'node-a', '--wait');
    expect(second.code).toBe(0);
    expect(second.stdout).toContain('node-a was already empty');
    const dry = await run('evacuate', 'node-a', '--dry-run');
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining('already empty') });
  });

  it('with -o json prints one OperationResult and nothing else', async () => {
    await startUp();
    const ended = await run('evacuate', 'node-a', '--wait', '-o', 'json');
    expect(ended.code).toBe(0);
    const result = operationResult.parse(JSON.parse(ended.stdout));
    expect(result.state).toBe('done');
    expect(result.moves.map((move) => move.vm).sort()).toEqual(['db-1', 'web-1', 'web-2']);
    expect(ended.stderr).toBe('');
  });

  it('with --approve-first it shows its plan and moves nothing before somebody has approved it', async () => {
    await startUp();
    const waiting = start('evacuate', 'node-a', '--approve-first', '--wait');
    await waiting.says(/ operation\.awaitingApproval .*hostevac approve ev-/);
    await waiting.says(/ plan\.move op=ev-\S+ plan=[0-9a-f]{16} vm=db-1 source=node-a destination=node-\w /);
    const id = /op=(ev-\S+)/.exec(waiting.stdout)?.[1] ?? '';
    const status = await run('status', id);
    const hash = /^plan {5}([0-9a-f]{16}), made .* ago; nothing of it has been done$/m.exec(status.stdout)?.[1] ?? '';
    expect(status.stdout).toMatch(/^evacuate node-a {2}awaitingApproval/);
    expect(status.stdout).toMatch(/^1 {2}\S+ +node-a +node-\w +(best fit|the only host)/m);
    expect((await run('status')).stdout).toMatch(/^node-a +no +3/m);
    const joined = await run('evacuate', 'node-a');
    expect(joined).toMatchObject({ code: 0, stdout: expect.stringContaining('joined') });
    expect(joined.stderr).toContain(`moves nothing before it is approved: hostevac approve ${id}`);
    const other = await run('approve', id, '--plan', '0123456789abcdef');
    expect(other).toMatchObject({ code: 0, stdout: expect.stringContaining('another plan by now') });
    expect(JSON.parse((await run('approve', id, '--plan', hash, '-o', 'json')).stdout)).toEqual({
      operation: id,
      changed: true,
      message: `${id} is approved (plan ${hash}) and begins`,
    });
    expect(await waiting.ended).toMatchObject({ code: 0, stdout: expect.stringContaining('3 VMs moved') });
    expect(waiting.stdout).toContain(' operation.approved ');
    expect(await run('approve', id)).toMatchObject({ code: 0, stdout: `${id} has already ended: done\n` });
  });

  it('without a worker it is kept, the user is told, and it is carried out when one starts', async () => {
    const asked = await run('evacuate', 'node-a', '-o', 'json');
    expect(asked.code).toBe(0);
    expect(asked.stderr).toContain('hostevac up');
    const { id, workersAlive } = accepted.parse(JSON.parse(asked.stdout));
    expect(workersAlive).toBe(false);
    const again = accepted.parse(JSON.parse((await run('evacuate', 'node-a', '-o', 'json')).stdout));
    expect(again).toMatchObject({ id, acceptance: 'joined' });
    const watching = start('watch', id);
    await watching.says('no worker is running');
    await startUp();
    const ended = await watching.ended;
    const years = [...ended.stdout.matchAll(/^(\d{4})-\S+Z /gm)].map((match) => Number(match[1]));
    expect(new Set(years)).toEqual(new Set([new Date().getFullYear()]));
    expect(ended.stdout).toContain('node-a is empty: 3 VMs moved');
    expect(ended.stdout).toMatch(/3 VMs moved in (\d+s|\d+m\d*s?);/);
    expect(ended.code).toBe(0);
  });

  it('goes on when Ctrl-C ends the waiting, and the message says how to follow it', async () => {
    await startUp();
    const waiting = start('evacuate', 'node-a', '--wait');
    await waiting.says('move.precopy');
    waiting.signalGroup('SIGINT');
    const ended = await waiting.ended;
    expect(ended.code).toBe(130);
    const id = /hostevac watch (\S+)/.exec(ended.stderr)?.[1] ?? '';
    const rest = await run('watch', id);
    expect(rest.code).toBe(0);
    expect(rest.stdout).toContain('node-a is empty: 3 VMs moved');
  });

  it('goes on when the wait has timed out', async () => {
    await startUp();
    const ended = await run('evacuate', 'node-a', '--wait', '--timeout', '200ms');
    expect(ended.code).toBe(5);
    expect(ended.stderr).toMatch(/hostevac watch ev-/);
  });

  it('nobody reading is no crash', async () => {
    await startUp();
    const waiting = start('evacuate', 'node-a', '--wait');
    await waiting.says('operation.planning');
    waiting.child.stdout?.destroy();
    const ended = await waiting.ended;
    expect(ended).toMatchObject({ code: 0, stderr: '' });
  });

  it('the same key again is the same operation; with another content it is refused', async () => {
    await startUp();
    const first = accepted.parse(
      JSON.parse((await run('evacuate', 'node-a', '--idempotency-key', 'k', '-o', 'json')).stdout),
    );
    const second = accepted.parse(
      JSON.parse((await run('evacuate', 'node-a', '--idempotency-key', 'k', '-o', 'json')).stdout),
    );
    expect(second).toMatchObject({ id: first.id, acceptance: 'repeated' });
    const other = await run('evacuate', 'node-c', '--idempotency-key', 'k');
    expect(other.code).toBe(2);
    expect(other.stderr).toContain('"k"');
  });
});

describe('the small commands', () => {
  it('a host that answers is not confirmed to be down', async () => {
    await startUp();
    expect(await run('confirm-down', 'node-b', '--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/node-b (answers|is about to be looked at).*Nothing was changed/s),
    });
    expect(await run('status')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^node-b .* alive +/m) });
  });

  it('pause, resume, cancel, cordon, uncordon and status say what they did', async () => {
    expect(await run('cordon', 'node-b')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('node-b is cordoned'),
    });
    expect(await run('cordon', 'node-b')).toMatchObject({ code: 0, stdout: expect.stringContaining('already') });
    expect(await run('status')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^node-b +yes/m) });
    expect(await run('uncordon', 'node-b')).toMatchObject({ code: 0 });
    expect(await run('confirm-down', 'node-b')).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') });
    // Nobody serves it, so nobody can know better.
    expect(await run('confirm-down', 'node-b', '--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('node-b is taken for down'),
    });
    expect(await run('status')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^node-b .* down +/m) });
    const { id } = accepted.parse(JSON.parse((await run('evacuate', 'node-a', '-o', 'json')).stdout));
    expect(await run('pause', id, '--now')).toMatchObject({ code: 0, stdout: expect.stringContaining('paused') });
    expect(await run('resume', id)).toMatchObject({ code: 0 });
    expect(JSON.parse((await run('cancel', id, '-o', 'json')).stdout)).toMatchObject({ operation: id, changed: true });
    expect(await run('status', id)).toMatchObject({ code: 0, stdout: expect.stringContaining(`id       ${id}`) });
    const { operations, hosts } = z
      .object({ operations: z.array(z.object({ id: z.string() })), hosts: z.array(z.unknown()) })
      .parse(JSON.parse((await run('status', '-o', 'json')).stdout));
    expect(operations.map((operation) => operation.id)).toEqual([id]);
    expect(hosts).toHaveLength(3);
  });

  it('balance moves what it is told, and a dry run says what it would', async () => {
    await startUp();
    const planned = await run('balance', '--move', 'db-1=node-b', '--dry-run');
    expect(planned).toMatchObject({ code: 0, stdout: expect.stringMatching(/db-1 +node-a +node-b/) });
    const ended = await run('balance', '--move', 'db-1=node-b', '--wait');
    expect(ended).toMatchObject({ code: 0, stdout: expect.stringContaining('1 VM moved in ') });
  });
});

describe('what cannot be done', () => {
  it('a destination that is too small is told with figures, and nothing moves', async () => {
    const small = smallFleet().replace(/(- name: node-b[^-]*?memory: )64GiB/, '$14GiB');
    await writeFile(join(home, 'fleet.yaml'), small);
    await startUp();
    const ended = await run('balance', '--move', 'db-1=node-b', '--wait');
    expect(ended.code).toBe(4);
    expect(ended.stdout + ended.stderr).toMatch(/db-1.*8GiB.*node-b/);
    const { hosts } = z
      .object({ hosts: z.array(z.object({ host: z.string(), runningVms: z.number() })) })
      .parse(JSON.parse((await run('status', '-o', 'json')).stdout));
    expect(hosts.map(({ host, runningVms }) => [host, runningVms])).toEqual([
      ['node-a', 3],
      ['node-b', 0],
      ['node-c', 1],
    ]);
  });

  it('a dry run of a host that nobody serves says so: an unseen host is not an empty one', async () => {
    const ended = await run('evacuate', 'node-a', '--dry-run');
    expect(ended.code).toBe(1);
    expect(ended.stderr).toMatch(/Nobody can see what is on node-a now.*hostevac worker --hosts node-a/);
  });
});

describe('up', () => {
  it('is healthy, ends when asked, and leaves no process behind', async () => {
    const { up, url } = await startUp();
    const health = await fetch(`${url}/healthz`);
    expect(await health.json()).toEqual({
      status: 'ok',
      redis: 'ok',
      workers: { operations: true, hosts: ['node-a', 'node-b', 'node-c'] },
    });
    expect(health.status).toBe(200);
    const redis = await redisPid();
    expect(startTicksOf(redis)).toBeDefined();
    up.child.kill('SIGTERM');
    const ended = await up.ended;
    expect(ended.code).toBe(0);
    expect(ended.stderr).toContain('adopted at the next start');
    expect(ended.stdout.trim()).toBe(url);
    await until(() => startTicksOf(redis) === undefined, 5_000, 'Redis ended');
  });

  it('ends well when the terminal sends Ctrl-C to its whole process group', async () => {
    const { up } = await startUp();
    const waiting = start('evacuate', 'node-a', '--wait');
    await waiting.says('move.precopy');
    up.signalGroup('SIGINT');
    expect((await up.ended).code).toBe(0);
    expect(up.stderr).not.toMatch(/"level":(50|60)/);
    await startUp();
    const ended = await waiting.ended;
    expect(ended.stdout).toContain('node-a is empty: 3 VMs moved');
    expect(ended.code).toBe(0);
  });

  it('the parts do together what up does', async () => {
    const operations = start('worker', '--operations');
    const hosts = start('worker', '--hosts', 'node-a,node-b,node-c');
    await operations.says('serving operations');
    await hosts.says('serving node-a, node-b, node-c');
    expect((await run('evacuate', 'node-a', '--wait')).code).toBe(0);
  });
});

it('a second Ctrl-C ends up at once, also when Redis hangs', async () => {
  const { up } = await startUp();
  const redis = await redisPid();
  process.kill(redis, 'SIGSTOP');
  try {
    up.child.kill('SIGINT');
    await until(() => up.stderr.includes('Again: at once'), 5_000, 'the message');
    expect(up.child.exitCode).toBeNull();
    up.child.kill('SIGINT');
    expect((await up.ended).code).toBe(130);
  } finally {
    process.kill(redis, 'SIGCONT');
  }
});

it('a Redis that hangs makes the health endpoint say so', async () => {
  const { url } = await startUp();
  const redis = await redisPid();
  process.kill(redis, 'SIGSTOP');
  try {
    const health = await fetch(`${url}/healthz`);
    expect(health.status).toBe(503);
    expect(await health.json()).toMatchObject({ redis: 'away' });
  } finally {
    process.kill(redis, 'SIGCONT');
  }
  await until(async () => (await fetch(`${url}/healthz`)).status === 200, 20_000, 'healthy again');
});

describe('the demo', () => {
  it('ends with an empty host, also after another was killed half-way, and leaves nothing behind', async () => {
    const killed = start('demo');
    await killed.says('move.done');
    killed.signalGroup('SIGKILL');
    await killed.ended;
    expect((await readdir(home)).filter((name) => name.startsWith('hostevac-demo-'))).toHaveLength(1);
    const began = performance.now();
    const ended = await run('demo');
    expect(ended.code).toBe(0);
    expect(performance.now() - began).toBeLessThan(60_000);
    expect(ended.stdout).toContain('16 VMs on 4 hosts, 3 of them busy');
    expect(ended.stdout).toContain('node-a is empty: 7 VMs moved');
    expect(ended.stdout).toContain('hostevac up');
    expect((await readdir(home)).filter((name) => name.startsWith('hostevac-demo-'))).toEqual([]);
  }, 120_000);

  it('Ctrl-C ends it at once, and nothing is left behind', async () => {
    const demo = start('demo');
    await demo.says('move.precopy');
    demo.signalGroup('SIGINT');
    const ended = await demo.ended;
    expect(ended.code).toBe(130);
    expect(ended.stderr).toContain('nothing is left behind');
    expect((await readdir(home)).filter((name) => name.startsWith('hostevac-demo-'))).toEqual([]);
  });
});

/** The server's pid, from its own record in the state directory. */
async function redisPid(): Promise<number> {
  for (const name of await readdir(home, { recursive: true })) {
    if (!name.endsWith('.json')) continue;
    const record = z
      .object({ pid: z.number(), socket: z.string() })
      .safeParse(JSON.parse(await readFile(join(home, name), 'utf8')));
    if (record.success) return record.data.pid;
  }
  throw new Error('no record of the embedded Redis');
}
