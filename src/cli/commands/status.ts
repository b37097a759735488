/** `hostevac status [operation]`: hosts and operations, or one operation in full. */
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { findOperation, hostsIfKnown, withSession } from '../session.ts';
import { detailLines, hostLines, operationLines } from '../status-text.ts';

/** What fits a screen; `-o json` gives them all. */
const OPERATIONS_SHOWN = 20;
const NO_FLEET = 'No fleet file here, so no hosts are shown: name one with --fleet FILE or HOSTEVAC_FLEET.';
const OPERATIONS_IN_JSON = 1_000;

export function addStatus(program: Command, run: Run): void {
  program
    .command('status [operation]')
    .description('hosts and operations, or one operation with its VMs and what it waits for')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'EGRESS and INGRESS: bandwidth promised to migrations, of the capacity in the fleet file.',
          'WORKER: whether a living worker serves the host; down: it was confirmed to be. SEEN: when its VMs were last looked at.',
        ],
        examples: [
          ['hostevac status', 'all hosts, newest operations first'],
          ['hostevac status op-1', 'one operation: each VM, its state and why'],
          ['hostevac status -o json | jq .hosts', 'for scripts'],
        ],
        codes: SIMPLE_CODES,
      }),
    )
    .action((operation: string | undefined) =>
      run((cli) => (operation === undefined ? overview(cli) : details(cli, operation))),
    );
}

function overview(cli: Cli): Promise<number> {
  const fleet = cli.findFleet();
  return withSession(cli, fleet, async ({ producer }) => {
    const [hosts, operations, nowMs] = await Promise.all([
      hostsIfKnown(producer),
      producer.operations(cli.output.json ? OPERATIONS_IN_JSON : OPERATIONS_SHOWN),
      producer.now(),
    ]);
    cli.output.result({ nowMs, hosts, operations });
    const columns = cli.output.columns();
    const { paint } = cli.output;
    cli.output.lines([
      ...(fleet === null ? [NO_FLEET] : hostLines(hosts, columns, paint)),
      '',
      ...operationLines(operations.slice(0, OPERATIONS_SHOWN), nowMs, columns, paint),
    ]);
    return EXIT.done;
  });
}

function details(cli: Cli, id: string): Promise<number> {
  const fleet = cli.findFleet();
  return withSession(cli, fleet, async ({ producer }) => {
    const handle = await findOperation(producer, id, fleet);
    const [record, moves, hosts, nowMs] = await Promise.all([
      handle.record(),
      handle.moves(),
      hostsIfKnown(producer),
      producer.now(),
    ]);
    cli.output.result({ nowMs, operation: record, moves });
    cli.output.lines(
      detailLines({ nowMs, record, moves, hosts, columns: cli.output.columns(), paint: cli.output.paint }),
    );
    return EXIT.done;
  });
}
