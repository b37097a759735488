/** `hostevac balance --move vm=host`: move VMs from host to host, below evacuations in rank. */
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import type { Cli, Run } from '../cli.ts';
import { exitCodeOfPlan } from '../exit.ts';
import { helpAfter, policyNotes, WAITING_CODES } from '../help.ts';
import { balanceRequest, type RequestOptions } from '../options.ts';
import { withSession } from '../session.ts';
import { planLines } from '../status-text.ts';
import { acceptedLine, announce, warn, watchToEnd } from './carry-out.ts';
import { addRequestOptions, collect } from './request-options.ts';

export function addBalance(program: Command, run: Run): void {
  addRequestOptions(
    program
      .command('balance')
      .description('move VMs to the hosts given')
      .option('--move <vm=host>', 'a VM and where it shall go; may be repeated', collect, []),
  )
    .addHelpText(
      'after',
      helpAfter({
        notes: policyNotes('rebalance'),
        examples: [
          ['hostevac balance --move db-1=node-b --wait', 'move one VM and watch'],
          ['hostevac balance --move web-1=node-b --move web-2=node-c', 'two at once, in the background'],
          ['hostevac balance --move db-1=node-b --dry-run', 'is there room?'],
        ],
        codes: WAITING_CODES,
      }),
    )
    .action((options: RequestOptions & { readonly move: string[] }) => run((cli) => balance(cli, options)));
}

async function balance(cli: Cli, { move, ...options }: RequestOptions & { readonly move: string[] }): Promise<number> {
  const fleet = cli.requireFleet();
  const { input, following } = balanceRequest(move, options, fleet);
  const log = cli.openLog('warn');
  return withSession(
    cli,
    fleet,
    async ({ producer }) => {
      if (following.dryRun) {
        const plan = await producer.preview({ loadBalance: input });
        cli.output.result(plan);
        warn(cli, plan.warnings);
        const lines = planLines(plan, cli.output.columns(), cli.output.paint);
        cli.output.lines(lines.length === 0 ? ['Nothing to move: every VM is where it shall be.'] : lines);
        return exitCodeOfPlan(plan);
      }
      const handle = await producer.loadBalance(input);
      warn(cli, handle.warnings);
      if (following.wait) {
        cli.output.lines([acceptedLine(await handle.record(), handle)]);
        return watchToEnd({ cli, producer, handle, log, timeoutMs: following.timeoutMs });
      }
      await announce(cli, producer, handle);
      return EXIT.done;
    },
    { supervise: following.wait, policies: true },
  );
}
