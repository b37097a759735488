/** `hostevac serve`: the API and the dashboard alone, for fleets whose workers run elsewhere. */
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import { createMetrics } from '../../metrics/create-metrics.ts';
import { openTracing } from '../../runtime/tracing.ts';
import { ACCESS_NOTES, type ApiFlags, addApiOptions, apiPlace, openCliApi, type Phase } from '../api-server.ts';
import type { Cli, Run } from '../cli.ts';
import { type Closer, closeAll } from '../closers.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { openRedisSource } from '../session.ts';
import { catchInterrupt } from '../signals.ts';
import { aborted, CLOSE_LIMIT_MS } from './up.ts';

export function addServe(program: Command, run: Run): void {
  const command = program.command('serve').description('serve the API and the dashboard; carry nothing out');
  addApiOptions(command)
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'Prints one line when it is ready: the URL. What is asked for is kept, and carried out by workers: hostevac worker, or',
          'hostevac up. Several may run beside each other on one Redis. GET /docs shows the API, /healthz and /readyz its state.',
          ...ACCESS_NOTES,
        ],
        examples: [
          ['hostevac serve', 'on http://127.0.0.1:7460'],
          ['hostevac serve --listen 0.0.0.0 --tls-cert api.crt --tls-key api.key', 'for others; make a token first'],
        ],
        codes: SIMPLE_CODES,
      }),
    )
    .action((options: ApiFlags) => run((cli) => serve(cli, options)));
}

async function serve(cli: Cli, options: ApiFlags): Promise<number> {
  const place = apiPlace(options);
  const fleet = cli.requireFleet();
  const policies = await cli.loadPolicies(fleet);
  const { logger } = cli.openLog('info');
  const interruption = catchInterrupt();
  let phase: Phase = 'starting';
  const metrics = await createMetrics({ works: false, log: logger });
  const api = await openCliApi({
    place,
    fleet,
    policies,
    log: logger,
    phase: () => phase,
    metrics,
    needsWorkers: false,
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
    const detach = await api.attach(connection, tracing);
    closers.push(detach);
    phase = 'running';
    cli.output.lines([api.url]);
    cli.output.result({ url: api.url });
    await aborted(interruption.signal);
    phase = 'stopping';
    // Who follows something connects again to whoever is next.
    api.server.hub.close();
    cli.output.remark('Stopping. Operations go on. Again: at once.');
    return EXIT.done;
  } finally {
    await closeAll(closers, CLOSE_LIMIT_MS, (problem) => logger.warn(problem));
    interruption.dispose();
  }
}
