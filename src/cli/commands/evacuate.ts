/** `hostevac evacuate <host>`: empty a host. */
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import type { Cli, Run } from '../cli.ts';
import { exitCodeOfPlan } from '../exit.ts';
import { helpAfter, NON_MIGRATABLE_NOTES, policyNotes, WAITING_CODES } from '../help.ts';
import { evacuateRequest, type RequestOptions } from '../options.ts';
import { hostsIfKnown, withSession } from '../session.ts';
import { planLines } from '../status-text.ts';
import { printable } from '../text.ts';
import { acceptedLine, announce, warn, watchToEnd } from './carry-out.ts';
import { addNonMigratableOptions, addRequestOptions } from './request-options.ts';

export function addEvacuate(program: Command, run: Run): void {
  addRequestOptions(addNonMigratableOptions(program.command('evacuate <host>')))
    .description('empty a host: migrate every VM away from it, and cordon it')
    .addHelpText(
      'after',
      helpAfter({
        notes: [...policyNotes('maintenance'), '', ...NON_MIGRATABLE_NOTES],
        examples: [
          ['hostevac evacuate node-a --dry-run', 'where would its VMs go?'],
          ['hostevac evacuate node-a --wait', 'do it and watch'],
          ['hostevac evacuate node-a --aggression 0.2 --deadline 2h', 'gently, within two hours, in the background'],
          ['hostevac evacuate node-a --non-migratable label --dry-run', 'who would be shut down?'],
          ['hostevac evacuate node-a --wait -o json | jq .state,.empty', 'for scripts'],
        ],
        codes: WAITING_CODES,
      }),
    )
    .action((host: string, options: RequestOptions) => run((cli) => evacuate(cli, host, options)));
}

async function evacuate(cli: Cli, host: string, options: RequestOptions): Promise<number> {
  const fleet = cli.requireFleet();
  const { input, following } = evacuateRequest(host, options, fleet);
  const log = cli.openLog('warn');
  return withSession(
    cli,
    fleet,
    async ({ producer }) => {
      if (following.dryRun) {
        const plan = await producer.preview({ evacuateNode: input });
        cli.output.result(plan);
        warn(cli, plan.warnings);
        const { moves, shutdowns, skipped, blocked } = plan;
        const empty = [moves, shutdowns, skipped, blocked].every((list) => list.length === 0);
        const nothing = `${printable(host)} is already empty: nothing to move.`;
        cli.output.lines(empty ? [nothing] : planLines(plan, cli.output.columns(), cli.output.paint));
        return exitCodeOfPlan(plan);
      }
      const handle = await producer.evacuateNode(input);
      warn(cli, handle.warnings);
      if (following.wait) {
        cli.output.lines([acceptedLine(await handle.record(), handle)]);
        return watchToEnd({ cli, producer, handle, log, timeoutMs: following.timeoutMs });
      }
      await announce(cli, producer, handle);
      const status = (await hostsIfKnown(producer)).find((entry) => entry.host === host);
      if (status !== undefined && status.inventoryAgeMs !== null && status.runningVms === 0) {
        cli.output.lines([`${printable(host)} is already empty: nothing is left to move.`]);
      }
      return EXIT.done;
    },
    { supervise: following.wait, policies: true },
  );
}
