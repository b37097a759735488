/** `hostevac worker`: a part of what `up` runs, for fleets whose hosts have a worker each. */
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import { createMetrics } from '../../metrics/create-metrics.ts';
import { serveMetrics } from '../../metrics/serve.ts';
import { stateDir } from '../../runtime/state-dir.ts';
import { openTracing } from '../../runtime/tracing.ts';
import type { Cli, Run } from '../cli.ts';
import { type Closer, closeAll } from '../closers.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { workerOptions } from '../options.ts';
import { openRedisSource } from '../session.ts';
import { catchInterrupt } from '../signals.ts';
import { printable } from '../text.ts';
import { aborted, CLOSE_GRACE_MS, CLOSE_LIMIT_MS } from './closing.ts';
import { startCrew } from './crew.ts';

interface WorkerFlags {
  readonly hosts?: string;
  readonly operations?: boolean;
  readonly metricsPort?: string;
  readonly metricsAddress?: string;
}

export function addWorker(program: Command, run: Run): void {
  program
    .command('worker')
    .description('carry out migrations of some hosts, or operations, or both')
    .option('--hosts <a,b>', 'serve these hosts: drive the migrations that leave them')
    .option('--operations', 'plan operations and see them through')
    .option(
      '--metrics-port <port>',
      'serve /metrics (Prometheus) and /healthz there; 0: any free port. Default: not at all',
    )
    .option('--metrics-address <address>', 'on this address of the machine. Default: 127.0.0.1')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'A fleet needs at least one worker with --operations, and one for every host. Several for the same are fine: each',
          'VM is driven by one of them, and another takes over when that one dies. All must have the same fleet file.',
          'SIGTERM or Ctrl-C ends it; running migrations go on and are adopted by the next worker. Twice: at once.',
        ],
        examples: [
          ['hostevac worker --operations', 'the planner'],
          ['hostevac worker --hosts node-a,node-b', 'the migrations that leave these two'],
        ],
        codes: SIMPLE_CODES,
      }),
    )
    .action((options: WorkerFlags) => run((cli) => worker(cli, options)));
}

async function worker(cli: Cli, options: WorkerFlags): Promise<number> {
  const fleet = cli.requireFleet();
  const { hosts, operations, metrics: place } = workerOptions(options, fleet);
  const policies = await cli.loadPolicies(fleet);
  const endpoints = operations ? cli.loadEndpoints(fleet) : [];
  const { logger } = cli.openLog('info');
  const interruption = catchInterrupt();
  const closers: Closer[] = [];
  try {
    const metrics = place === null ? null : await createMetrics({ works: true });
    // The port first: one that is taken must not have begun anything.
    const page = metrics === null || place === null ? null : await serveMetrics(place, metrics);
    if (page !== null) closers.push(() => page.close());
    const source = await openRedisSource(cli, { supervise: true });
    closers.push(() => source.close());
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
      operations,
      endpoints,
      tracing,
      observers: metrics?.observer == null ? [] : [metrics.observer],
    });
    closers.push(() => crew.close(CLOSE_GRACE_MS));
    const serves = [...(operations ? ['operations'] : []), ...hosts.map(printable)].join(', ');
    cli.output.lines([`serving ${serves}`, ...(page === null ? [] : [`metrics ${page.url}/metrics`])]);
    cli.output.result({ hosts, operations, ...(page === null ? {} : { metrics: `${page.url}/metrics` }) });
    await aborted(interruption.signal);
    cli.output.remark('Stopping. Running migrations go on and are adopted by the next worker. Again: at once.');
    return EXIT.done;
  } finally {
    await closeAll(closers, CLOSE_LIMIT_MS, (problem) => logger.warn(problem));
    interruption.dispose();
  }
}
