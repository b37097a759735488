/**
 * Entry of `npm run bench:api`: one API process over a simulated fleet of 1,000 hosts and 20,000 VMs, with 500 followers and 100
 * mixed reads a second, beside a bare Fastify that sends the same bytes. `--runs N` (default 5) of `--seconds N` each (60); `--minutes N`:
 * then one long run of ours, for its memory (default 10; 0: none).
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { until } from '../support/condition.ts';
import { type LoadOrders, type LoadSeen, loadSeenSchema } from './api/orders.ts';
import { markdownTable } from './markdown.ts';
import { Bench } from './queue/parts.ts';
import { runMain } from './series.ts';

const HOSTS = 1_000;
const VMS_EACH = 20;
const FOLLOWERS = 500;
/** Of them, of the whole fleet; the others follow one operation each. */
const OF_THE_FLEET = 400;
const PER_SECOND = 100;
const CUT = 50;
/** Evacuated meanwhile, so that there is something to follow: their guests take longer than all runs. */
const EVACUATED = 3;
const PROGRAM = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const LOAD = fileURLToPath(new URL('./api/load.js', import.meta.url));
const BARE = fileURLToPath(new URL('./api/bare.js', import.meta.url));

const hostName = (index: number): string => `host-${String(index).padStart(4, '0')}`;
const vmName = (index: number): string => `vm-${String(index).padStart(5, '0')}`;

function fleetText(): string {
  const hosts = Array.from({ length: HOSTS }, (_, host) => {
    const vms = Array.from(
      { length: VMS_EACH },
      (__, vm) =>
        `{ name: ${vmName(host * VMS_EACH + vm)}, memory: 4GiB, cpus: 2, dirtyRate: 10MiB/s, workingSet: 256MiB, cpuUse: 0.4 }`,
    );
    return `
  - name: ${hostName(host)}
    driver: simulated
    migrationAddress: 192.0.2.1
    egress: 40MiB/s
    ingress: 40MiB/s
    cpus: 96
    memory: 256GiB
    simulated: { vms: [${vms.join(', ')}] }`;
  });
  return `name: bench\nhosts:${hosts.join('')}\n`;
}

/** Mixed reads, of everything that a page or a tool asks for. */
function paths(operations: readonly string[]): string[] {
  const all: string[] = [];
  for (let round = 0; round < 160; round += 1) {
    const host = hostName((round * 37) % HOSTS);
    const operation = operations[round % operations.length] ?? '';
    all.push(
      `/v1/hosts/${host}`,
      `/v1/vms/${vmName((round * 731) % (HOSTS * VMS_EACH))}`,
      '/v1/operations?limit=50',
      `/v1/operations/${operation}`,
      `/v1/vms?host=${host}`,
      `/v1/operations/${operation}/migrations`,
      '/v1/vms?limit=100',
      '/v1/me',
      '/healthz',
      ...(round % 5 === 0 ? ['/v1/hosts'] : []),
      ...(round === 0 ? ['/metrics'] : []),
    );
  }
  return all;
}

/** A full garbage collection (Mark-Compact), and what was left in the heap behind it. */
interface Collection {
  readonly at: number;
  readonly liveMiB: number;
}

interface Place {
  readonly bench: Bench;
  readonly url: string;
  readonly pid: number;
  readonly operations: readonly string[];
  /** Grows. */
  readonly collections: readonly Collection[];
}

async function ours(): Promise<Place> {
  const bench = new Bench();
  await bench.start();
  writeFileSync(join(bench.home, 'fleet.yaml'), fleetText());
  const hosts = Array.from({ length: HOSTS }, (_, index) => hostName(index)).join(',');
  const quiet = ['--log-level', 'error'];
  const run = (...args: string[]) => bench.spawn(process.execPath, [PROGRAM, ...args]);
  await firstLine(run('worker', '--hosts', hosts, ...quiet));
  await firstLine(run('worker', '--operations', ...quiet));
  // What its garbage collection says on the way is read along.
  const serve = bench.spawn(process.execPath, ['--trace-gc', PROGRAM, 'serve', '--port', '0', ...quiet]);
  const collections: Collection[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    serve.once('exit', (code) => reject(new Error(`serve ended with ${code}`)));
    if (serve.stdout === null) throw new Error('no output of serve');
    createInterface({ input: serve.stdout }).on('line', (line) => {
      if (line.startsWith('http')) resolve(line.trim());
      const live = /Mark-Compact.* -> ([\d.]+) \(/.exec(line)?.[1];
      if (live !== undefined) collections.push({ at: performance.now(), liveMiB: Number(live) });
    });
  });
  await until(async () => (await fetch(`${url}/v1/vms?limit=1`)).ok, 60_000, 'the API answers');
  const operations: string[] = [];
  for (let index = 0; index < EVACUATED; index += 1) {
    const answer = await fetch(`${url}/v1/evacuations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ host: hostName(index * 7), maxTime: '2h', maxBandwidth: '2MiB/s' }),
    });
    operations.push(z.object({ id: z.string() }).parse(await answer.json()).id);
  }
  const follows = await fetch(`${url}/v1/operations/${operations[0]}`);
  if (!follows.ok) throw new Error(`the first operation: ${follows.status} ${await follows.text()}`);
  return { bench, url, pid: serve.pid ?? 0, operations, collections };
}

function ordersFor({ url, operations }: Pick<Place, 'url' | 'operations'>, seconds: number): LoadOrders {
  const streams = Array.from({ length: FOLLOWERS }, (_, index) =>
    index < OF_THE_FLEET ? '/v1/events' : `/v1/operations/${operations[index % operations.length]}/events`,
  );
  return { url, seconds, perSecond: PER_SECOND, paths: paths(operations), streams, cut: CUT };
}

async function load(orders: LoadOrders): Promise<LoadSeen> {
  const child = spawn(process.execPath, [LOAD, JSON.stringify(orders)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await new Promise((resolve) => child.once('close', resolve));
  return loadSeenSchema.parse(JSON.parse(text));
}

/** The same bytes as ours sends, from a file. */
async function peerOf(place: Place, eventsPerSecond: number): Promise<{ url: string; end: () => void }> {
  const answers: Record<string, { type: string; body: string }> = {};
  for (const path of new Set(paths(place.operations))) {
    const answer = await fetch(`${place.url}${path}`);
    answers[path] = { type: answer.headers.get('content-type') ?? '', body: await answer.text() };
  }
  const file = join(place.bench.home, 'answers.json');
  writeFileSync(file, JSON.stringify({ answers, eventsPerSecond, eventBytes: 300 }));
  const child = place.bench.spawn(process.execPath, [BARE, file]);
  return { url: (await firstLine(child)).trim(), end: () => child.kill('SIGKILL') };
}

async function firstLine(child: ReturnType<Bench['spawn']>): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (chunk) => {
      child.stdout?.resume();
      resolve(String(chunk).split('\n')[0] ?? '');
    });
    child.once('exit', (code) => reject(new Error(`it ended with ${code}`)));
  });
}

function rssMiB(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib ?? 0) / 1_024;
}

const quantile = (ascending: readonly number[], q: number): number =>
  ascending[Math.min(ascending.length - 1, Math.floor(q * ascending.length))] ?? 0;

const median = (values: readonly number[]): number =>
  quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );

const ok = ({ answers }: LoadSeen): string =>
  Object.entries(answers)
    .map(([answer, count]) => `${count} times ${answer}`)
    .join(', ');

/** MiB at the ends of a line through the second half of the samples: what is built up in the first is no leak. */
function slopeOf(samples: readonly { readonly atMin: number; readonly mib: number }[]): number {
  const half = samples.slice(Math.floor(samples.length / 2));
  const meanX = half.reduce((sum, { atMin }) => sum + atMin, 0) / half.length;
  const meanY = half.reduce((sum, { mib }) => sum + mib, 0) / half.length;
  const above = half.reduce((sum, { atMin, mib }) => sum + (atMin - meanX) * (mib - meanY), 0);
  const below = half.reduce((sum, { atMin }) => sum + (atMin - meanX) ** 2, 0);
  return below === 0 ? 0 : above / below;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '60' },
      minutes: { type: 'string', default: '10' },
    },
  });
  const seconds = Number(values.seconds);
  const place = await ours();
  const rows: { who: string; seen: LoadSeen }[] = [];
  const say = (who: string, seen: LoadSeen): void => {
    const { latencies: all } = seen;
    const slow = Object.entries(seen.slowest)
      .sort(([, a], [, b]) => b - a)
      .slice(0, 3)
      .map(([path, ms]) => `${path} ${ms.toFixed(0)}`);
    process.stdout.write(
      `${who}: p50 ${quantile(all, 0.5).toFixed(1)} ms, p99 ${quantile(all, 0.99).toFixed(1)} ms, most ${(all.at(-1) ?? 0).toFixed(0)} ms (${slow.join(', ')}); ${ok(seen)}; ${seen.events} events, ${seen.lostStreams} streams lost; sent ${seen.latestSendMs.toFixed(0)} ms late at the most\n`,
    );
  };
  try {
    for (let run = 1; run <= Number(values.runs); run += 1) {
      const seen = await load(ordersFor(place, seconds));
      say(`ours ${run}`, seen);
      rows.push({ who: 'ours', seen });
      const peer = await peerOf(place, seen.events / FOLLOWERS / seconds);
      const theirs = await load(ordersFor({ ...place, url: peer.url }, seconds));
      peer.end();
      say(`bare ${run}`, theirs);
      rows.push({ who: 'bare', seen: theirs });
    }
    if (rows.length > 0) process.stdout.write(table(rows));
    const minutes = Number(values.minutes);
    if (minutes > 0) await flat(place, minutes, say);
  } finally {
    await place.bench.close();
  }
  return 0;
}

function table(rows: readonly { readonly who: string; readonly seen: LoadSeen }[]): string {
  const figures = [
    ['p50 ms', 0.5],
    ['p99 ms', 0.99],
    ['p99.9 ms', 0.999],
  ] as const;
  return markdownTable(
    [`${FOLLOWERS} followers, ${PER_SECOND} reads/s`, 'ours', 'bare Fastify', 'ratio'],
    figures.map(([name, q]) => {
      const [mine, bare] = ['ours', 'bare'].map((who) =>
        rows.filter((row) => row.who === who).map(({ seen }) => quantile(seen.latencies, q)),
      );
      const shown = (all: readonly number[] = []): string =>
        `${median(all).toFixed(1)} (${Math.min(...all).toFixed(1)}..${Math.max(...all).toFixed(1)})`;
      return [name, shown(mine), shown(bare), (median(mine ?? []) / median(bare ?? [])).toFixed(1)];
    }),
  );
}

function eachMinute(samples: readonly { readonly atMin: number; readonly mib: number }[]): string[] {
  const minutes = Array.from({ length: Math.ceil(samples.at(-1)?.atMin ?? 0) }, (_, minute) =>
    samples.filter(({ atMin }) => Math.floor(atMin) === minute).map(({ mib }) => mib),
  );
  return minutes.map((all) => (all.length === 0 ? '-' : median(all).toFixed(0)));
}

async function flat(place: Place, minutes: number, say: (who: string, seen: LoadSeen) => void): Promise<void> {
  const begun = performance.now();
  const samples: { atMin: number; mib: number }[] = [];
  const timer = setInterval(() => {
    samples.push({ atMin: (performance.now() - begun) / 60_000, mib: rssMiB(place.pid) });
  }, 5_000);
  const seen = await load(ordersFor(place, minutes * 60));
  clearInterval(timer);
  say(`ours, ${minutes} min`, seen);
  const live = place.collections
    .filter(({ at }) => at >= begun)
    .map(({ at, liveMiB }) => ({ atMin: (at - begun) / 60_000, mib: liveMiB }));
  const each = samples.filter((_, index) => index % 12 === 0).map(({ mib }) => mib.toFixed(0));
  const most = Math.max(...samples.map(({ mib }) => mib));
  process.stdout.write(
    `memory each minute, MiB: ${each.join(', ')}; most ${most.toFixed(0)}; in the second half ${slopeOf(samples).toFixed(2)} MiB a minute\n` +
      `of it live behind ${live.length} full garbage collections, median of each minute: ${eachMinute(live).join(', ')}; in the second half ${slopeOf(live).toFixed(2)} MiB a minute\n`,
  );
}

await runMain(main);
