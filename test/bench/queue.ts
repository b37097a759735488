/**
 * Entry of `npm run bench:queue`: what one worker process and Redis spend on 200 simulated migrations at once, each with a
 * decision a second, beside bare BullMQ jobs that tell their progress once a second. `--runs N` (default 5).
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { RealClock } from '../../src/clock/real-clock.ts';
import { openRedis, redisTarget } from '../../src/runtime/redis-connection.ts';
import { fleetPrefix, Stores } from '../../src/runtime/stores.ts';
import { until } from '../support/condition.ts';
import { markdownTable } from './markdown.ts';
import { Bench, type Load } from './queue/parts.ts';
import { runMain } from './series.ts';

const MIGRATIONS = 200;
const HOSTS = 20;
const LOOK_MS = 20_000;
const PROGRAM = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const BARE = fileURLToPath(new URL('./queue/bare.js', import.meta.url));

/** Each guest is copied for some four minutes: longer than anybody looks. */
function fleetText(): string {
  const host = (name: string, vms: readonly string[]): string => `
  - name: ${name}
    driver: simulated
    migrationAddress: 192.0.2.1
    egress: 40GiB/s
    ingress: 40GiB/s
    cpus: 512
    memory: 512GiB
    simulated: { vms: [${vms
      .map((vm) => `{ name: ${vm}, memory: 24GiB, cpus: 2, dirtyRate: 5MiB/s, workingSet: 64MiB, cpuUse: 0.3 }`)
      .join(', ')}] }`;
  const each = MIGRATIONS / HOSTS;
  const full = Array.from({ length: HOSTS }, (_, index) =>
    host(
      `full-${index}`,
      Array.from({ length: each }, (__, vm) => `vm-${index * each + vm}`),
    ),
  );
  const empty = Array.from({ length: HOSTS }, (_, index) => host(`empty-${index}`, []));
  return `name: bench\nhosts:${[...full, ...empty].join('')}\n`;
}

async function ours(): Promise<Load> {
  const bench = new Bench();
  try {
    await bench.start();
    writeFileSync(join(bench.home, 'fleet.yaml'), fleetText());
    const hosts = Array.from({ length: HOSTS }, (_, index) => [`full-${index}`, `empty-${index}`]).flat();
    const worker = bench.spawn(process.execPath, [
      PROGRAM,
      'worker',
      '--hosts',
      hosts.join(','),
      '--log-level',
      'error',
    ]);
    const planner = bench.spawn(process.execPath, [PROGRAM, 'worker', '--operations', '--log-level', 'error']);
    await Promise.all([worker, planner].map(says));
    const target = redisTarget(bench.socket);
    const redis = await openRedis(target, 'producer');
    const stores = new Stores({
      redis,
      prefix: fleetPrefix('bench'),
      clock: new RealClock(),
      openSubscriber: () => openRedis(target, 'subscriber'),
    });
    const ids: string[] = [];
    for (let index = 0; index < HOSTS; index += 1) {
      const args = ['evacuate', `full-${index}`, '--max-bandwidth', '100MiB/s', '-o', 'json'];
      const child = bench.spawn(process.execPath, [PROGRAM, ...args]);
      ids.push(z.object({ id: z.string() }).parse(JSON.parse(await textOf(child))).id);
    }
    const copying = async (): Promise<number> => {
      const operations = await Promise.all(ids.map((id) => stores.records.operation(id)));
      const moves = await stores.records.moves(
        operations.flatMap((one) => one?.tasks.flatMap((task) => task.moveIds) ?? []),
      );
      return moves.filter((move) => move?.step === 'precopy').length;
    };
    await until(async () => (await copying()) === MIGRATIONS, 120_000, `${MIGRATIONS} migrations at once`);
    const load = await bench.look(worker.pid ?? 0, LOOK_MS);
    const still = await copying();
    if (still !== MIGRATIONS) throw new Error(`only ${still} of ${MIGRATIONS} were still being copied at the end`);
    await stores.close();
    redis.disconnect();
    return load;
  } finally {
    await bench.close();
  }
}

async function bare(): Promise<Load> {
  const bench = new Bench();
  try {
    await bench.start();
    const worker = bench.spawn(process.execPath, [BARE, bench.socket, String(MIGRATIONS)]);
    await says(worker);
    const redis = bench.client();
    await until(async () => (await redis.llen('bull:bare:active')) === MIGRATIONS, 30_000, 'all jobs active');
    redis.disconnect();
    return await bench.look(worker.pid ?? 0, LOOK_MS);
  } finally {
    await bench.close();
  }
}

async function says(child: ReturnType<Bench['spawn']>): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`it ended with ${code}`)));
  });
  child.stdout?.resume();
}

async function textOf(child: ReturnType<Bench['spawn']>): Promise<string> {
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await new Promise((resolve) => child.once('close', resolve));
  return text;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { runs: { type: 'string', default: '5' } } });
  const loads: { readonly who: string; readonly load: Load }[] = [];
  for (let run = 1; run <= Number(values.runs); run += 1) {
    for (const [who, play] of [
      ['ours', ours],
      ['bare', bare],
    ] as const) {
      const load = await play();
      loads.push({ who, load });
      process.stdout.write(
        `${who} ${run}: ${load.cores.toFixed(2)} cores, ${(load.commands / MIGRATIONS).toFixed(2)} commands per migration and second, ${(load.simulation / MIGRATIONS).toFixed(2)} of them for the simulated fleet\n`,
      );
    }
  }
  const figures: readonly (readonly [string, (load: Load) => number])[] = [
    ['cores, the simulated guests of ours among them', (load) => load.cores],
    ['cores of Redis (watched with MONITOR)', (load) => load.redisCores],
    ['commands per migration and second', (load) => load.commands / MIGRATIONS],
    ['of them for the simulated fleet', (load) => load.simulation / MIGRATIONS],
  ];
  const rows = figures.map(([name, of]) => {
    const [ours, bare] = ['ours', 'bare'].map((who) =>
      loads.filter((one) => one.who === who).map(({ load }) => of(load)),
    );
    const shown = (all: readonly number[] = []): string =>
      `${median(all).toFixed(2)} (${Math.min(...all).toFixed(2)}..${Math.max(...all).toFixed(2)})`;
    const peer = median(bare ?? []);
    return [name, shown(ours), shown(bare), peer > 0 ? (median(ours ?? []) / peer).toFixed(2) : ''];
  });
  process.stdout.write(markdownTable([`${MIGRATIONS} at once`, 'ours', 'bare BullMQ', 'ratio'], rows));
  return 0;
}

await runMain(main);
