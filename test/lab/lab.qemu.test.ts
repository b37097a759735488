/** `hostevac lab` as a user meets it: up, looked at, emptied, down; and whatever goes wrong, nothing is left behind. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { connectQmp } from '../../src/hypervisors/qemu/qmp/client.ts';
import { readManifest } from '../../src/lab/manifest.ts';
import { endProcesses, qemusOf } from '../../src/lab/processes.ts';
import { isDeadHere } from '../../src/runtime/process-identity.ts';
import { Command, type Ended, userEnv } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const upAnswer = z.object({
  place: z.string(),
  accel: z.enum(['tcg', 'kvm']),
  fleetFile: z.string(),
  guests: z.array(z.object({ name: z.string(), host: z.string() })),
  up: z.object({ pid: z.number(), url: z.url(), log: z.string() }).nullable(),
});
const statusAnswer = z.object({
  state: z.string(),
  serving: z.boolean(),
  guests: z.array(
    z.object({
      guest: z.string(),
      host: z.string(),
      state: z.string(),
      progress: z.number().nullable(),
      rateBytesPerSec: z.number().nullable(),
      memory: z.object({ wrongPages: z.number(), faults: z.array(z.string()), writes: z.number() }).nullable(),
    }),
  ),
  missing: z.array(z.string()),
  doubled: z.array(z.string()),
});
const errorAnswer = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

describeWith(['qemu'], 'a lab', () => {
  let home = '';
  let place = '';
  const started: Command[] = [];

  beforeEach(() => {
    home = mkdtempSync('/tmp/hevlab-test-');
    place = join(home, 'lab');
  });
  afterEach(async () => {
    await Promise.all(started.splice(0).map((command) => command.kill()));
    // Only where the test has failed is there anything left for it.
    await start(['lab', 'down']).ended;
    started.length = 0;
    await endProcesses(qemusOf(home));
    rmSync(home, { recursive: true, force: true });
  }, 60_000);

  function start(args: readonly string[], over: NodeJS.ProcessEnv = {}): Command {
    const command = new Command(args, { env: userEnv(home, over), cwd: home });
    started.push(command);
    return command;
  }
  const run = (...args: string[]): Promise<Ended> => start(args).ended;
  const json = <T>(schema: z.ZodType<T>, ended: Ended): T => {
    if (ended.stdout === '') throw new Error(`it said nothing on stdout; on stderr:\n${ended.stderr}`);
    return schema.parse(JSON.parse(ended.stdout));
  };

  function expectNothingLeft(where = place): void {
    expect(qemusOf(where)).toEqual([]);
    expect(existsSync(where)).toBe(false);
    expect(existsSync(join(home, 'lab'))).toBe(false);
    expect(existsSync(join(home, 'fleet.yaml'))).toBe(false);
  }

  test('comes up, gets on, is whole, comes up once only, and goes down without a trace', async () => {
    const up = await run('lab', 'up', '--guests', '2', '--profile', 'idle,mild', '--no-serve', '-o', 'json');
    expect(up).toMatchObject({ code: 0 });
    const lab = json(upAnswer, up);
    expect(lab.place).toBe(place);
    expect(lab.guests.map(({ name, host }) => `${name}@${host}`)).toEqual(['idle-1@lab-a', 'mild-1@lab-a']);
    expect(qemusOf(place)).toHaveLength(2);

    const again = await run('lab', 'up', '-o', 'json');
    expect(again.code).toBe(1);
    expect(json(errorAnswer, again).error).toMatchObject({ code: 'labUnfit', message: /a lab is up already/ });

    const looked = await run('lab', 'status', '--check', '-o', 'json');
    expect(looked.code).toBe(0);
    const status = json(statusAnswer, looked);
    expect(status).toMatchObject({ state: 'up', serving: false, missing: [], doubled: [] });
    for (const { state, memory, rateBytesPerSec } of status.guests) {
      expect(state).toBe('running');
      expect(memory).toMatchObject({ wrongPages: 0, faults: [] });
      expect(rateBytesPerSec).toBeGreaterThan(0);
    }
    const people = await run('lab', 'status');
    expect(people.stdout).toMatch(/^idle-1 +idle +lab-a +running/m);

    expect(await run('lab', 'down')).toMatchObject({ code: 0, stdout: /2 guests ended/ });
    expectNothingLeft();
    expect(await run('lab', 'down')).toMatchObject({ code: 0, stdout: 'no lab is up\n' });
    expect(json(z.object({ state: z.string() }), await run('lab', 'status', '-o', 'json')).state).toBe('none');
  });

  test('is emptied by the very next command, its guests whole where they are now, and goes down all the same', async () => {
    const up = await run('lab', 'up', '--guests', '2', '--profile', 'idle,mild', '-o', 'json');
    const lab = json(upAnswer, up);
    const server = readManifest(home)?.up?.process;
    if (server === undefined) throw new Error('nobody serves the lab');
    expect(server.pid).toBe(lab.up?.pid);
    const before = json(statusAnswer, await run('lab', 'status', '-o', 'json'));
    const evacuated = await run('evacuate', 'lab-a', '--wait', '-o', 'json');
    expect(json(z.object({ state: z.string() }), evacuated).state).toBe('done');
    const after = json(statusAnswer, await run('lab', 'status', '--check', '-o', 'json'));
    expect(after).toMatchObject({ serving: true, missing: [], doubled: [] });
    for (const { guest, host, memory, progress } of after.guests) {
      expect(host).not.toBe('lab-a');
      expect(memory?.faults).toEqual([]);
      expect(progress).toBeGreaterThan(before.guests.find((old) => old.guest === guest)?.progress ?? 0);
    }
    expect(readdirSync(join(place, 'lab-a'))).toEqual([]);
    expect(await run('lab', 'down')).toMatchObject({ code: 0 });
    expect(isDeadHere(server)).toBe(true);
    expectNothingLeft();
  });

  test('goes on when Ctrl-C ends a look at its memory: no guest is left standing still', async () => {
    await run('lab', 'up', '--profile', 'big', '--no-serve');
    // The check itself holds the spare monitor.
    const qmp = await connectQmp(join(place, 'lab-a', 'big-1', 'qmp.sock'));
    try {
      const running = async (): Promise<boolean> =>
        (await qmp.execute('query-status', z.object({ running: z.boolean() }))).running;
      const looking = start(['lab', 'status', '--check']);
      await until(async () => !(await running()), 30_000, 'the check');
      looking.signalGroup('SIGINT');
      expect(await looking.ended).toMatchObject({ code: 130 });
      expect(await running()).toBe(true);
    } finally {
      qmp.close();
    }
  });

  test('that Ctrl-C interrupts leaves nothing', async () => {
    const up = start(['lab', 'up', '--profile', 'big,idle']);
    await until(() => up.stderr.includes(' runs on '), 60_000, 'the first guest');
    up.signalGroup('SIGINT');
    expect(await up.ended).toMatchObject({ code: 130, stderr: /nothing of the lab is left/ });
    expectNothingLeft();
  });

  test('whose start was killed is told from one that is up, and removed by lab down', async () => {
    const up = start(['lab', 'up', '--profile', 'big,idle', '--no-serve']);
    await until(() => up.stderr.includes(' runs on '), 60_000, 'the first guest');
    // However long the other guest takes and the next command needs to start: it is still starting.
    process.kill(up.pid, 'SIGSTOP');
    const meanwhile = await run('lab', 'down');
    expect(meanwhile).toMatchObject({ code: 1, stderr: /is starting this lab right now/ });
    await up.kill();
    expect(await run('lab', 'up')).toMatchObject({ code: 1, stderr: /was killed.*hostevac lab down/s });
    expect(await run('lab', 'down')).toMatchObject({ code: 0 });
    expectNothingLeft();
  });

  test('that cannot be served is undone, and says why', async () => {
    const args = ['lab', 'up', '--profile', 'idle', '-o', 'json'];
    const up = await start(args, { REDIS_URL: 'nonsense' }).ended;
    expect(up.code).toBe(1);
    expect(json(errorAnswer, up).error.message).toMatch(/hostevac up ended: .*REDIS_URL/s);
    expectNothingLeft();
  });

  test('neither overwrites nor removes a fleet file of the user', async () => {
    const file = join(home, 'fleet.yaml');
    writeFileSync(file, '# mine\n');
    const refused = await run('lab', 'up', '-o', 'json');
    expect(json(errorAnswer, refused).error).toMatchObject({ code: 'badInput', message: /fleet\.yaml" - exists/ });
    expect(refused.code).toBe(2);
    expect(existsSync(place)).toBe(false);
    rmSync(file);

    const up = await run('lab', 'up', '--profile', 'idle', '--no-serve', '--fleet-file', 'other.yaml');
    expect(up).toMatchObject({ code: 0, stdout: /export HOSTEVAC_FLEET=.*other\.yaml/ });
    const other = join(home, 'other.yaml');
    writeFileSync(other, `${readFileSync(other, 'utf8')}# a remark of mine\n`);
    expect(await run('lab', 'down')).toMatchObject({ code: 0, stderr: /other\.yaml has been changed .* kept/ });
    const again = await run('lab', 'up', '--profile', 'idle', '--no-serve', '--fleet-file', 'other.yaml');
    expect(again).toMatchObject({ code: 2, stderr: /other\.yaml" - has been changed .* move it away/ });
    expect(readFileSync(other, 'utf8')).toContain('a remark of mine');
    expectNothingLeft();
  });

  test('in a state directory whose path is too long for sockets goes to a short one, and leaves that, too', async () => {
    const long = join(home, 'a-state-directory-with-a-name-that-goes-on-and-on-and-on');
    mkdirSync(long);
    const env = { HOSTEVAC_STATE_DIR: long };
    const up = await start(['lab', 'up', '--profile', 'idle', '--no-serve', '-o', 'json'], env).ended;
    const lab = json(upAnswer, up);
    expect(lab.place).toMatch(/^\/tmp\/hevlab-/);
    expect(readManifest(long)?.place).toBe(lab.place);
    expect(await start(['lab', 'down'], env).ended).toMatchObject({ code: 0 });
    expectNothingLeft(lab.place);
    expect(readdirSync(long)).toEqual([]);
  });
});
