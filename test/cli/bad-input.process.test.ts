/** What is refused: message, exit code, and that nothing was changed by it. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { createProducer } from '../../src/queue/create-producer.ts';
import type { Producer } from '../../src/queue/producer.ts';
import { connectionSource } from '../../src/runtime/redis-connection.ts';
import { FAULTY_FLEET, smallFleet } from './small-fleet.ts';
import { Command, type Ended, userEnv } from './spawn.ts';

let home = '';
let env: NodeJS.ProcessEnv = {};
let up: Command;
let producer: Producer;
let closeRedis: () => Promise<void>;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'hostevac-test-'));
  await mkdir(join(home, 'empty'));
  await writeFile(join(home, 'fleet.yaml'), smallFleet());
  await writeFile(join(home, 'faulty.yaml'), FAULTY_FLEET);
  env = userEnv(home);
  up = new Command(['up', '--port', '0'], { env, cwd: home });
  await up.says('http://127.0.0.1:');
  const source = await connectionSource(env, { stateDir: home, log: () => undefined });
  closeRedis = () => source.close();
  producer = await createProducer({
    connection: source.target.options,
    fleet: parseFleet(smallFleet(), { format: 'yaml', name: 'fleet.yaml' }),
  });
});
afterAll(async () => {
  await producer?.close();
  await closeRedis?.();
  await up?.kill();
  await rm(home, { recursive: true, force: true });
});

async function nothingChanged(): Promise<void> {
  expect(await producer.operations()).toEqual([]);
  expect((await producer.hosts()).filter((host) => host.cordoned)).toEqual([]);
}

function run(args: readonly string[], over: NodeJS.ProcessEnv = {}, cwd = home): Promise<Ended> {
  return new Command(args, { env: { ...env, ...over }, cwd }).ended;
}

interface Row {
  readonly what: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly directory?: string;
  readonly code: number;
  readonly error: string;
  /** Each must be in the message. */
  readonly says: readonly string[];
}

const NOWHERE = 'redis://user:secret@127.0.0.1:1';

const TABLE: readonly Row[] = [
  {
    what: 'an unknown host',
    args: ['evacuate', 'node-aa', '--wait'],
    code: 2,
    error: 'unknownHost',
    says: ['node-aa', 'did you mean node-a?', 'node-a, node-b, node-c'],
  },
  {
    what: 'a fleet file with five faults',
    args: ['evacuate', 'node-a', '--fleet', 'faulty.yaml'],
    code: 2,
    error: 'badInput',
    says: ['hosts[0].egress', 'hosts[0].cpus', 'memry', 'hosts[1].simulated.vms[0].cpuUse', 'node-a', '5 problems'],
  },
  {
    what: 'negative aggression and an unknown policy, both at once',
    args: ['evacuate', 'node-a', '--aggression', '-0.5', '--policy', 'brutal'],
    code: 2,
    error: 'badInput',
    says: ['--aggression', '-0.5', '--policy', 'brutal', 'maintenance'],
  },
  {
    what: 'a fleet file that is not there',
    args: ['evacuate', 'node-a', '--fleet', 'nowhere.yaml'],
    code: 2,
    error: 'fleetFileMissing',
    says: ['nowhere.yaml', 'does not exist'],
  },
  {
    what: 'no fleet file at all',
    args: ['up', '--port', '0'],
    directory: 'empty',
    code: 2,
    error: 'fleetFileMissing',
    says: ['fleet.yaml', '--fleet', 'HOSTEVAC_FLEET'],
  },
  {
    what: 'Redis away',
    args: ['evacuate', 'node-a', '--wait'],
    env: { REDIS_URL: NOWHERE },
    code: 1,
    error: 'redisAway',
    says: ['127.0.0.1:1', 'REDIS_URL'],
  },
  {
    what: 'a move that is none',
    args: ['balance', '--move', 'garbage'],
    code: 2,
    error: 'badInput',
    says: ['--move', 'garbage', 'vm=host'],
  },
  { what: 'a balance of nothing', args: ['balance'], code: 2, error: 'badInput', says: ['--move', 'is missing'] },
  {
    what: 'a move of an unknown VM to a host that there is',
    args: ['balance', '--move', 'db-9=node-b'],
    code: 2,
    error: 'unknownVm',
    says: ['db-9', 'db-1'],
  },
  {
    what: 'an unknown command',
    args: ['evacate', 'node-a'],
    code: 2,
    error: 'badInput',
    says: ['evacate', 'evacuate'],
  },
  {
    what: 'an unknown option',
    args: ['evacuate', 'node-a', '--wiat'],
    code: 2,
    error: 'badInput',
    says: ['--wiat', '--wait'],
  },
  { what: 'a missing argument', args: ['evacuate'], code: 2, error: 'badInput', says: ['host'] },
  {
    what: 'an unknown operation, watched',
    args: ['watch', 'ev-1'],
    code: 2,
    error: 'unknownOperation',
    says: ['ev-1'],
  },
  {
    what: 'an operation, watched from where no fleet file is',
    args: ['watch', 'ev-1'],
    directory: 'empty',
    code: 2,
    error: 'unknownOperation',
    says: ['ev-1', '--fleet'],
  },
  {
    what: 'an unknown operation, cancelled',
    args: ['cancel', 'ev-1'],
    code: 2,
    error: 'unknownOperation',
    says: ['ev-1'],
  },
  { what: 'a cordon of an unknown host', args: ['cordon', 'node-x'], code: 2, error: 'unknownHost', says: ['node-x'] },
  {
    what: 'a worker for unknown hosts',
    args: ['worker', '--hosts', 'node-a,nod-b'],
    code: 2,
    error: 'unknownHost',
    says: ['nod-b', 'node-b'],
  },
  { what: 'a worker for nothing', args: ['worker'], code: 2, error: 'badInput', says: ['--hosts', '--operations'] },
  {
    what: 'a timeout of no wait',
    args: ['evacuate', 'node-a', '--timeout', '5s'],
    code: 2,
    error: 'badInput',
    says: ['--timeout', '--wait'],
  },
  { what: 'a port that is none', args: ['up', '--port', 'http'], code: 2, error: 'badInput', says: ['--port'] },
];

it.each(TABLE)('$what is refused, in words or JSON, and changes nothing', async (row) => {
  const { args, code, error, says } = row;
  const where = join(home, row.directory ?? '');
  const [text, json] = await Promise.all([run(args, row.env, where), run([...args, '-o', 'json'], row.env, where)]);
  expect(text).toMatchObject({ code, stdout: '' });
  for (const said of says) expect(text.stderr).toContain(said);
  expect(text.stderr).not.toMatch(/^\s+at .*:\d+/m);
  expect(json.code).toBe(code);
  expect(JSON.parse(json.stdout)).toMatchObject({ error: { code: error, message: expect.any(String) } });
  for (const output of [text.stderr, json.stdout, json.stderr]) expect(output).not.toContain('secret');
  await nothingChanged();
});

it('Redis away is told within about five seconds', async () => {
  const began = performance.now();
  const ended = await run(['status'], { REDIS_URL: NOWHERE });
  expect(ended.code).toBe(1);
  expect(ended.stderr.trim().split('\n')).toHaveLength(1);
  expect(performance.now() - began).toBeLessThan(10_000);
});

it('a port that is taken: nothing is started', async () => {
  const port = /http:\/\/127\.0\.0\.1:(\d+)/.exec(up.stdout)?.[1] ?? '';
  const state = await mkdtemp(join(tmpdir(), 'hostevac-test-'));
  try {
    const ended = await run(['up', '--port', port], { HOSTEVAC_STATE_DIR: join(state, 'none') });
    expect(ended.code).toBe(1);
    expect(ended.stderr).toContain('already in use');
    expect(ended.stderr).toContain('--port');
    await expect(rm(join(state, 'none'), { recursive: true })).rejects.toMatchObject({ code: 'ENOENT' });
  } finally {
    await rm(state, { recursive: true, force: true });
  }
});

it.each([[['--help']], [['evacuate', '--help']], [['--version']]])('%j is no fault', async (args) => {
  const ended = await run(args);
  expect(ended.code).toBe(0);
  expect(ended.stderr).toBe('');
  expect(ended.stdout).not.toBe('');
});
