/** `hostevac release [host]`: lifts every throttle on this machine now, whoever set it. Needs neither Redis nor a worker. */
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import { stateDir } from '../../runtime/state-dir.ts';
import { GuardClient } from '../../throttling/guard/client.ts';
import type { Released } from '../../throttling/guard/protocol.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { requireHosts } from '../hosts.ts';
import { printable } from '../text.ts';

export function addRelease(program: Command, run: Run): void {
  program
    .command('release [host]')
    .description('lift every throttle on this machine now, or those of one host')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'Asks the guard of this state directory, the only writer of quotas; restores what one that died has left, too.',
          'A migration that goes on throttles its guest again within a second; `hostevac cancel` or `pause --now` ends it.',
          'Throttles of simulated guests lift themselves.',
        ],
        examples: [
          ['hostevac release', 'every guest has its CPU back'],
          ['hostevac release node-a', 'those of one host'],
        ],
        codes: SIMPLE_CODES,
      }),
    )
    .action((host: string | undefined) => run((cli) => release(cli, host ?? null)));
}

async function release(cli: Cli, host: string | null): Promise<number> {
  if (host !== null) requireHosts(cli.requireFleet(), [host], '[host]');
  const guard = new GuardClient({ stateDir: stateDir(cli.env), log: (line) => cli.output.remark(line) });
  let outcome: Released;
  try {
    outcome = (await guard.isIdle()) ? { released: [], failed: [] } : await guard.releaseAll(host);
  } finally {
    await guard.close();
  }
  cli.output.result(outcome);
  cli.output.lines(releasedLines(outcome));
  return outcome.failed.length === 0 ? EXIT.done : EXIT.failed;
}

function releasedLines({ released, failed }: Released): string[] {
  if (released.length + failed.length === 0) return ['nothing is throttled'];
  return [
    ...released.map(({ host, vm }) => `${printable(host)}/${printable(vm)}: has its CPU back`),
    ...failed.map(
      ({ host, vm, message }) =>
        `${printable(host)}/${printable(vm)}: NOT LIFTED YET, the guard goes on trying: ${printable(message)}`,
    ),
  ];
}
