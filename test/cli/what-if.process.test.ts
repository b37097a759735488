/** `hostevac what-if` as a user meets it: a fleet, `up` in one terminal, questions in another. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { intervalSchema, predictionSchema } from '../../src/domain/prediction.ts';
import { openRedis, redisTarget } from '../../src/runtime/redis-connection.ts';
import { fleetPrefix } from '../../src/runtime/stores.ts';
import { RedisCellStore } from '../../src/store/redis-store.ts';
import { until } from '../support/condition.ts';
import { MiB } from './records.ts';
import { Command, type Ended, userEnv } from './spawn.ts';

/** Each VM another case; the link carries 200 MiB/s. */
function fleet(speed: number, more = ''): string {
  const host = (name: string, vms: string): string => `
  - { name: ${name}, driver: simulated, migrationAddress: 192.0.2.1, egress: 200MiB/s, ingress: 200MiB/s, cpus: 64, memory: 128GiB, simulated: { vms: [${vms}] } }`;
  const vm = (name: string, rest: string): string => `{ name: ${name}, memory: 2GiB, cpus: 2, cpuUse: 0.5, ${rest} }`;
  const vms = [
    vm('mild', 'dirtyRate: 8MiB/s, workingSet: 200MiB'),
    vm('hot', 'dirtyRate: 800MiB/s, workingSet: 600MiB'),
    vm('stopped', 'dirtyRate: 1MiB/s, workingSet: 64MiB, state: shutOff'),
    vm('paused', 'dirtyRate: 1MiB/s, workingSet: 64MiB, state: paused'),
  ];
  return `name: small
hosts:${host('node-a', vms.join(', '))}${host('node-b', vm('large', 'dirtyRate: 100MiB/s, workingSet: 1GiB').replace('2GiB', '60GiB'))}${host('node-c', '')}
simulation: { speed: ${speed} }
${more}`;
}

/** A state directory with a fleet file, and the commands that run in it. */
class Place {
  readonly home: string;
  readonly #started: Command[] = [];

  private constructor(home: string) {
    this.home = home;
  }

  static async open(fleetFile: string): Promise<Place> {
    const place = new Place(await mkdtemp(join(tmpdir(), 'hostevac-test-')));
    await place.write('fleet.yaml', fleetFile);
    return place;
  }

  write(name: string, text: string): Promise<void> {
    return writeFile(join(this.home, name), text);
  }

  start(...args: string[]): Command {
    const command = new Command(args, { env: userEnv(this.home), cwd: this.home });
    this.#started.push(command);
    return command;
  }

  run(...args: string[]): Promise<Ended> {
    return this.start(...args).ended;
  }

  async startUp(): Promise<Command> {
    const up = this.start('up', '--port', '0');
    await up.says(/^http:\/\/127\.0\.0\.1:\d+\n/);
    return up;
  }

  async ask(...args: string[]): Promise<z.infer<typeof answerSchema>> {
    const ended = await this.run('what-if', ...args, '-o', 'json');
    if (ended.code !== 0) throw new Error(`ended with ${ended.code}: ${ended.stdout}${ended.stderr}`);
    return answerSchema.parse(JSON.parse(ended.stdout));
  }

  async close(): Promise<void> {
    await Promise.all(this.#started.splice(0).map((command) => command.kill()));
    await rm(this.home, { recursive: true, force: true });
  }
}

const answerSchema = z.looseObject({
  vm: z.string(),
  host: z.string(),
  destination: z.string().nullable(),
  state: z.string(),
  bandwidthBytesPerSec: z.number(),
  measured: z.object({ looks: z.array(z.unknown()), tookMs: z.number(), earlierMigrations: z.number() }),
  model: z.object({ rateBytesPerSec: z.looseObject({}), workingSetBytes: z.looseObject({}) }).nullable(),
  rows: z.array(
    z.object({
      aggression: z.number().nullable(),
      chosen: z.boolean(),
      share: z.number(),
      prediction: predictionSchema,
      endsInTime: z.number(),
      breaks: z.array(z.object({ requirement: z.string(), why: z.string() })),
      why: z.string(),
    }),
  ),
});
let place: Place;

describe('what-if', () => {
  beforeAll(async () => {
    place = await Place.open(fleet(4));
    await place.startUp();
  });
  afterAll(() => place.close());

  it('a hot guest: what is known of it, and what every aggression would cost', async () => {
    const answer = await place.ask('hot', '--aggression', '0.35');
    expect(answer).toMatchObject({ vm: 'hot', host: 'node-a', state: 'running', bandwidthBytesPerSec: 200 * MiB });
    const { value } = intervalSchema.parse(answer.model?.rateBytesPerSec);
    expect(value / MiB).toBeGreaterThan(640);
    expect(value / MiB).toBeLessThan(960);
    expect(answer.measured.looks.length).toBeGreaterThan(1);
    expect(answer.rows.map(({ aggression }) => aggression)).toEqual([
      null,
      ...[0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
    ]);
    const [free, ...throttled] = answer.rows;
    expect(free).toMatchObject({ share: 1, breaks: [{ requirement: 'maxTime' }] });
    for (const [index, row] of throttled.entries()) {
      expect(row.share).toBeLessThanOrEqual(throttled[index - 1]?.share ?? 1);
      expect(row.breaks).toEqual([]);
      expect(row.chosen).toBe(row.aggression === 0.35);
    }
  });

  it('as text: the figures with their intervals, the line that the policy takes, what it rests on', async () => {
    const { code, stdout, stderr } = await place.run('what-if', 'hot');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^hot on node-a: running, 2GiB \(2GiB to be sent\), uses 1\.0 cores\nwrites {5}\S+MiB\/s/);
    expect(stdout).toMatch(/^known from \d+ looks of 50ms to \S+, \S+ in all$/m);
    expect(stdout).toMatch(/^sent with {2}200MiB\/s \(egress of node-a\) to node-b /m);
    expect(stdout).toMatch(/^no throttle {2}no end .* not max time \(no end within 10m\)$/m);
    expect(stdout).toMatch(/^\S+ \* +\d\S* \(\S+\.\.\S+\) .* all$/m);
    expect(stdout).toMatch(/^\* is what the policy would do/m);
    const mild = await place.run('what-if', 'mild');
    expect(mild.stdout).toContain('All aggressions are alike');
    expect(mild.stdout.match(/^\S+ \* /gm)).toHaveLength(1);
  });

  it('requirements that cannot be kept: which gives way, and what is done then', async () => {
    const { stdout } = await place.run(
      'what-if',
      'hot',
      '--max-time',
      '12s',
      '--min-cpu',
      '0.9',
      '--precedence',
      'min-cpu,max-bandwidth,max-time',
    );
    expect(stdout).toMatch(/^\S+ \* .* not max time \(no end within 12s\)$/m);
    expect(stdout).toMatch(/^gives up {3}cannot end within 12s without going below 90% CPU: .*; then it is aborted/m);
    const capped = await place.run('what-if', 'mild', '--max-bandwidth', '50MiB/s', '--to', 'node-b');
    expect(capped.stdout).toMatch(/^sent with {2}50MiB\/s \(the policy's cap\) to node-b \(as asked\)$/m);
  });

  it('what does not run: said, and no table', async () => {
    const paused = await place.run('what-if', 'paused');
    expect(paused).toMatchObject({ code: 0, stdout: expect.stringContaining('It writes nothing while it is paused') });
    const stopped = await place.run('what-if', 'stopped');
    expect(stopped).toMatchObject({ code: 0, stdout: expect.stringContaining('It has no memory to send') });
    expect(await place.ask('paused')).toMatchObject({ state: 'paused', rows: [], model: null });
  });

  it('a VM that is not there: exit 2, with the nearest name', async () => {
    const { code, stderr } = await place.run('what-if', 'hott');
    expect(code).toBe(2);
    expect(stderr).toContain('did you mean hot?');
  });
});

describe('what-if beside others', () => {
  beforeEach(async () => {
    place = await Place.open(fleet(4));
  });
  afterEach(() => place.close());

  it('a running evacuation does not hold it up, and a VM on its way is said to be', async () => {
    await place.startUp();
    const evacuation = z
      .object({ id: z.string() })
      .parse(JSON.parse((await place.run('evacuate', 'node-b', '-o', 'json')).stdout));
    await until(
      async () => (await place.run('status', evacuation.id)).stdout.includes(' precopy '),
      20_000,
      'a migration that sends',
    );
    const moving = await place.run('what-if', 'large');
    expect(moving.stdout).toContain('It is being migrated to ');
    expect(moving.stdout).toContain(`Follow it with: hostevac watch ${evacuation.id}`);
    expect((await place.ask('hot')).rows).toHaveLength(12);
    expect((await place.run('cancel', evacuation.id)).code).toBe(0);
  });

  it('without a worker it says what to start', async () => {
    const nobody = await place.run('what-if', 'hot');
    expect(nobody.code).toBe(1);
    expect(nobody.stderr).toContain('hostevac worker --hosts node-a');
    const up = await place.startUp();
    up.signalGroup('SIGTERM');
    await up.ended;
    const gone = await place.run('what-if', 'hot');
    expect(gone.code).toBe(1);
    expect(gone.stderr).toContain('no worker serves node-a');
  });

  it('Ctrl-C while it measures: exit 130, and nothing of the request is left', async () => {
    // Slow enough to be interrupted: three seconds of this fleet are ten of ours.
    await place.write('fleet.yaml', fleet(0.3));
    await place.startUp();
    const redis = await openRedis(redisTarget(join(place.home, 'redis.sock')), 'producer');
    try {
      const cells = new RedisCellStore(redis, fleetPrefix('small'));
      const open = async (): Promise<string[]> =>
        z.array(z.string()).parse(JSON.parse((await cells.read('measuring')).text ?? '[]'));
      const asking = place.start('what-if', 'hot');
      let ids: string[] = [];
      const taken = async (): Promise<boolean> => {
        ids = await open();
        const text = (await cells.read(`measuring:${ids[0]}`)).text;
        return (
          text !== null && z.looseObject({ takenBy: z.string().nullable() }).parse(JSON.parse(text)).takenBy !== null
        );
      };
      await until(taken, 20_000, 'a worker that looks');
      asking.signalGroup('SIGINT');
      expect(await asking.ended).toMatchObject({ code: 130, stdout: '' });
      expect(await open()).toEqual([]);
      expect((await cells.read(`measuring:${ids[0]}`)).text).toBeNull();
    } finally {
      redis.disconnect();
    }
  });
});

describe("a policy of the user's own", () => {
  const policies = 'policies: [{ name: gentle-nights, module: ./gentle-nights.mjs }]\n';

  beforeEach(async () => {
    place = await Place.open(fleet(4, policies));
    await place.write(
      'gentle-nights.mjs',
      await readFile(new URL('../../docs/examples/gentle-nights.mjs', import.meta.url), 'utf8'),
    );
  });
  afterEach(() => place.close());

  it('is asked what it would do, and moves VMs', async () => {
    await place.startUp();
    expect(await place.ask('hot', '--policy', 'gentle-nights')).toMatchObject({
      policy: { name: 'gentle-nights', maxTimeMs: 1_800_000 },
    });
    const vm = ['--vm', 'hot:policy=maintenance,aggression=1', '--vm', 'absent:min-cpu=1'];
    const moved = await place.run('evacuate', 'node-a', '--policy', 'gentle-nights', ...vm, '--wait');
    expect([moved.code, moved.stdout]).toEqual([0, expect.stringContaining('node-a is empty')]);
    expect(moved.stderr).toContain('warning: the policy given for absent has no effect');
    const operations = z.object({ operations: z.array(z.object({ id: z.string() })) });
    const [{ id } = { id: '' }] = operations.parse(
      JSON.parse((await place.run('status', '-o', 'json')).stdout),
    ).operations;
    const { stdout } = await place.run('status', id);
    expect(stdout).toMatch(/^policy {3}gentle-nights: aggression 0, min CPU 0\.3/m);
    expect(stdout).toMatch(/^ +hot: maintenance: aggression 1, min CPU 0\.1/m);
  });

  it('that a worker does not know ends a move before it begins, and says what to do', async () => {
    const asked = await place.run('evacuate', 'node-a', '--policy', 'gentle-nights', '-o', 'json');
    const { id } = z.object({ id: z.string() }).parse(JSON.parse(asked.stdout));
    await place.write('fleet.yaml', fleet(4));
    await place.startUp();
    const { code, stdout } = await place.run('watch', id);
    expect(code).toBe(1);
    expect(stdout).toContain('the policy gentle-nights is not known to this worker; list it under policies');
    expect((await place.ask('hot')).host).toBe('node-a');
  });

  it('that cannot be loaded is refused before anything starts', async () => {
    await place.write('gentle-nights.mjs', 'export default { name: "gentle-nights", chose() {} };\n');
    for (const command of [
      ['up', '--port', '0'],
      ['evacuate', 'node-a', '--policy', 'gentle-nights'],
    ]) {
      const { code, stderr } = await place.run(...command);
      expect(code).toBe(2);
      expect(stderr).toContain('policies[0] (./gentle-nights.mjs).what: is missing');
      expect(stderr).toContain('did you mean choose?');
    }
  });
});
