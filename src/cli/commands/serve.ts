/** `hostevac serve`: the API and the dashboard alone, for fleets whose workers run elsewhere. */
import type { Command } from 'commander';
import { ACCESS_NOTES, type ApiFlags, addApiOptions, apiPlace } from '../api-server.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { serving } from './serving.ts';

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
  return serving(cli, {
    place,
    fleet,
    policies,
    crew: null,
    stopping: 'Stopping. Operations go on. Again: at once.',
  });
}
