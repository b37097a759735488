/** `hostevac up`: everything in one process. Until it is asked to end, and then without harm to what runs. */
import { once } from 'node:events';
import type { Command } from 'commander';
import { EXIT, HostevacError } from '../../domain/errors.ts';
import { createProducer } from '../../queue/create-producer.ts';
import type { Producer } from '../../queue/producer.ts';
import { stateDir } from '../../runtime/state-dir.ts';
import { openTracing } from '../../runtime/tracing.ts';
import type { Cli, Run } from '../cli.ts';
import { type Closer, closeAll } from '../closers.ts';
import { type Health, serveHealth } from '../health.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { upOptions } from '../options.ts';
import { openRedisSource } from '../session.ts';
import { catchInterrupt } from '../signals.ts';
import { startCrew } from './crew.ts';

/** Enough to write down where everything stands; nobody waits longer than this for Ctrl-C. */
export const CLOSE_GRACE_MS = 8_000;
/** For each thing that is closed: the grace, and a little for Redis to answer. */
export const CLOSE_LIMIT_MS = CLOSE_GRACE_MS + 2_000;
/** A health check that takes longer is an answer, too. */
const HEALTH_TIMEOUT_MS = 2_000;

export function addUp(program: Command, run: Run): void {
  program
    .command('up')
    .description('run everything in this process: workers for every host of the fleet, and Redis if none is set')
    .option('--port <port>', 'where http://127.0.0.1:<port>/healthz is served; 0: any free port', '7460')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'Prints one line when it is ready: the URL. Redis: REDIS_URL if set, else one of its own on a private socket in the',
          'state directory (HOSTEVAC_STATE_DIR, default ~/.local/state/hostevac), found there by the other commands.',
          'Ctrl-C or SIGTERM ends it; running migrations go on and are adopted at the next start. Twice: at once.',
        ],
        examples: [
          ['hostevac up', 'with fleet.yaml of this directory'],
          ['hostevac up --fleet /etc/hostevac/fleet.yaml --port 0', 'another fleet, any free port'],
          ['REDIS_URL=redis://redis:6379 hostevac up', 'with a Redis that runs already'],
        ],
        codes: SIMPLE_CODES,
      }),
    )
    .action((options: { port: string }) => run((cli) => up(cli, options)));
}

async function up(cli: Cli, options: { readonly port: string }): Promise<number> {
  const { port } = upOptions(options);
  const fleet = cli.requireFleet();
  const policies = await cli.loadPolicies(fleet);
  const endpoints = cli.loadEndpoints(fleet);
  const { logger } = cli.openLog('info');
  const interruption = catchInterrupt();
  let phase: 'starting' | 'running' | 'stopping' = 'starting';
  let producer: Producer | null = null;
  // The port first: of two that start at once, one must not have begun anything.
  const server = await serveHealth(port, () => healthOf(producer, phase));
  const closers: Closer[] = [() => server.close()];
  try {
    const source = await openRedisSource(cli, { supervise: true });
    closers.push(() => source.close());
    const hosts = fleet.hosts.map((host) => host.name);
    const connection = source.target.options;
    const tracing = await openTracing(cli.env);
    closers.push(async () => tracing?.close());
    const crew = await startCrew({
      fleet,
      policies,
      connection,
      log: logger,
      stateDir: stateDir(cli.env),
      hosts,
      operations: true,
      endpoints,
      tracing,
    });
    closers.push(() => crew.close(CLOSE_GRACE_MS));
    const opened = await createProducer({ connection, fleet, policies, telemetry: tracing?.telemetry });
    producer = opened;
    closers.push(() => opened.close());
    phase = 'running';
    cli.output.lines([server.url]);
    cli.output.result({ url: server.url });
    await aborted(interruption.signal);
    phase = 'stopping';
    cli.output.remark('Stopping. Running migrations go on and are adopted at the next start. Again: at once.');
    return EXIT.done;
  } finally {
    await closeAll(closers, CLOSE_LIMIT_MS, (problem) => logger.warn(problem));
    interruption.dispose();
  }
}

export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  // A signal alone keeps no process alive.
  const alive = setInterval(() => undefined, 60_000);
  await once(signal, 'abort');
  clearInterval(alive);
}

async function healthOf(producer: Producer | null, phase: 'starting' | 'running' | 'stopping'): Promise<Health> {
  if (producer === null) return { status: 'starting', redis: 'unknown', workers: { operations: false, hosts: [] } };
  try {
    const [operations, hosts] = await within(HEALTH_TIMEOUT_MS, Promise.all([producer.hasWorkers(), producer.hosts()]));
    const served = hosts.filter((host) => host.served).map((host) => host.host);
    const complete = operations && served.length === hosts.length;
    const status = phase === 'stopping' ? 'stopping' : complete ? 'ok' : 'degraded';
    return { status, redis: 'ok', workers: { operations, hosts: served } };
  } catch {
    return { status: 'degraded', redis: 'away', workers: { operations: false, hosts: [] } };
  }
}

function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new HostevacError('redisAway', `no answer within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
