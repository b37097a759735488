/** `hostevac up`: everything in one process. Until it is asked to end, and then without harm to what runs. */
import type { Command } from 'commander';
import { ACCESS_NOTES, type ApiFlags, addApiOptions, apiPlace } from '../api-server.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { serving } from './serving.ts';

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
  const hosts = fleet.hosts.map((host) => host.name);
  return serving(cli, {
    place,
    fleet,
    policies,
    crew: { hosts, operations: true, endpoints },
    stopping: 'Stopping. Running migrations go on and are adopted at the next start. Again: at once.',
  });
}
