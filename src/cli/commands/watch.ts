/** `hostevac watch <operation>`: follow an operation that somebody asked for, to its end. */
import type { Command } from 'commander';
import { z } from 'zod';
import { parseInput } from '../../domain/problems.ts';
import { durationText } from '../../domain/units.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, WAITING_CODES } from '../help.ts';
import { findOperation, withSession } from '../session.ts';
import { watchToEnd } from './carry-out.ts';

export function addWatch(program: Command, run: Run): void {
  program
    .command('watch <operation>')
    .description('show the progress of an operation until it ends')
    .option('--timeout <duration>', 'stop watching after this (exit code 5); the operation goes on')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'On a terminal: one line per VM, redrawn in place, events above. Elsewhere: one line per event. Ctrl-C detaches.',
        ],
        examples: [
          ['hostevac watch op-1', 'until it ends, then the summary'],
          ['hostevac watch op-1 | grep " move.failed "', 'what went wrong, as it happens'],
          ['hostevac watch op-1 -o json', 'wait, then one OperationResult'],
        ],
        codes: WAITING_CODES,
      }),
    )
    .action((operation: string, options: { timeout?: string }) => run((cli) => watch(cli, operation, options)));
}

async function watch(cli: Cli, id: string, options: { readonly timeout?: string }): Promise<number> {
  const schema = z.strictObject({ timeout: durationText.optional() });
  const { timeout } = parseInput(schema, options, { what: 'the command line', pathPrefix: '--' });
  const fleet = cli.findFleet();
  const log = cli.openLog('warn');
  return withSession(
    cli,
    fleet,
    async ({ producer }) => {
      const handle = await findOperation(producer, id, fleet);
      return watchToEnd({
        cli,
        producer,
        handle,
        log,
        timeoutMs: timeout ?? null,
        endWithReader: true,
      });
    },
    { supervise: true },
  );
}
