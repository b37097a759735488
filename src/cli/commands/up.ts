/** `hostevac up`: everything in one process. Until it is asked to end, and then without harm to what runs. */
import { once } from 'node:events';
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import { createMetrics } from '../../metrics/create-metrics.ts';
import { stateDir } from '../../runtime/state-dir.ts';
import { openTracing } from '../../runtime/tracing.ts';
import { ACCESS_NOTES, type ApiFlags, addApiOptions, apiPlace, openCliApi, type Phase } from '../api-server.ts';
import type { Cli, Run } from '../cli.ts';
import { type Closer, closeAll } from '../closers.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { openRedisSource } from '../session.ts';
import { catchInterrupt } from '../signals.ts';
import { startCrew } from './crew.ts';

/** Enough to write down where everything stands; nobody waits longer than this for Ctrl-C. */
export const CLOSE_GRACE_MS = 8_000;
/** For each thing that is closed: the grace, and a little for Redis to answer. */
export const CLOSE_LIMIT_MS = CLOSE_GRACE_MS + 2_000;

export function addUp(program: Command, run: Run): void {
  const command = program
    .command('up')
    .description('run everything in this process: API, dashboard, workers for every host, and Redis if none is set');
  addApiOptions(command)
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'Prints one line when it is ready: the URL. Redis: REDIS_URL if set, else one of its own on a private socket in the',
          'state directory (HOSTEVAC_STATE_DIR, default ~/.local/state/hostevac), found there by the other commands.',
          ...ACCESS_NOTES,
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
    .action((options: ApiFlags) => run((cli) => up(cli, options)));
}

async function up(cli: Cli, options: ApiFlags): Promise<number> {
  const place = apiPlace(options);
  const fleet = cli.requireFleet();
  const policies = await cli.loadPolicies(fleet);
  const endpoints = cli.loadEndpoints(fleet);
  const { logger } = cli.openLog('info');
  const interruption = catchInterrupt();
  let phase: Phase = 'starting';
  // The port first: of two that start at once, one must not have begun anything.
  const metrics = await createMetrics({ works: true, log: logger });
  const api = await openCliApi({
    place,
    fleet,
    policies,
    log: logger,
    phase: () => phase,
    metrics,
    needsWorkers: true,
  });
  const closers: Closer[] = [() => api.close()];
  try {
    const source = await openRedisSource(cli, { supervise: true });
    closers.push(() => source.close());
    const connection = source.target.options;
    const tracing = await openTracing(cli.env);
    closers.push(async () => tracing?.close());
    await metrics.showFleet({ fleet, connection });
    closers.push(() => metrics.close());
    // Before the workers: a server that may not listen where it does must not have begun anything either.
    const detach = await api.attach(connection, tracing);
    closers.push(detach);
    const hosts = fleet.hosts.map((host) => host.name);
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
      observers: metrics.observer === null ? [] : [metrics.observer],
    });
    closers.push(() => crew.close(CLOSE_GRACE_MS));
    phase = 'running';
    cli.output.lines([api.url]);
    cli.output.result({ url: api.url });
    await aborted(interruption.signal);
    phase = 'stopping';
    // Who follows something connects again to whoever is next.
    api.server.hub.close();
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
