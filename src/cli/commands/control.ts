/** Small commands that set one durable flag: `cancel`, `pause`, `resume`, `approve` an operation; `cordon`, `uncordon` a host. */
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import { badInput } from '../../domain/problems.ts';
import type { ControlOutcome, Producer } from '../../queue/producer.ts';
import { userName } from '../audit-writer.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, SIMPLE_CODES } from '../help.ts';
import { requireHosts } from '../hosts.ts';
import { findOperation, withSession } from '../session.ts';
import { printable } from '../text.ts';

interface ControlText {
  readonly name: string;
  readonly description: string;
  readonly notes: readonly string[];
  readonly examples: readonly (readonly [string, string])[];
}

export function addControls(program: Command, run: Run): void {
  addConfirmDown(program, run);
  const operation = (text: ControlText): Command => describe(program.command(`${text.name} <operation>`), text);
  const host = (text: ControlText): Command => describe(program.command(`${text.name} <host>`), text);

  operation({
    name: 'cancel',
    description: 'end an operation: running migrations are cancelled, their VMs go on where they are',
    notes: ['VMs that have moved stay where they are now. A cordon stays; lift it with `hostevac uncordon <host>`.'],
    examples: [['hostevac cancel op-1', 'no VM is left throttled or half-moved']],
  }).action((id: string) => run((cli) => onOperation(cli, id, (handle) => handle.cancel())));

  operation({
    name: 'pause',
    description: 'start no further move; running migrations finish',
    notes: ['With --now running migrations are cancelled, too, and start again after `hostevac resume`.'],
    examples: [
      ['hostevac pause op-1', 'let the running ones finish'],
      ['hostevac pause op-1 --now', 'free the network at once'],
    ],
  })
    .option('--now', 'cancel running migrations as well, and queue them again')
    .action((id: string, options: { now?: boolean }) =>
      run((cli) => onOperation(cli, id, (handle) => handle.pause({ now: options.now === true }))),
    );

  operation({
    name: 'resume',
    description: 'go on with a paused operation',
    notes: [],
    examples: [['hostevac resume op-1', 'and follow it with hostevac watch op-1']],
  }).action((id: string) => run((cli) => onOperation(cli, id, (handle) => handle.resume())));

  operation({
    name: 'approve',
    description: 'let an operation that was asked for with --approve-first do what it proposes',
    notes: [
      '`hostevac status <operation>` shows the plan and its hash. What is begun is that plan: if it cannot be carried out any more',
      'when it is to begin, nothing is done, and the next plan waits for approval. With --plan only the plan of that hash is approved.',
    ],
    examples: [
      ['hostevac approve op-1', 'the plan that stands now'],
      ['hostevac approve op-1 --plan 2f0c4e8a91b3d576', 'that one, or nothing'],
    ],
  })
    .option('--plan <hash>', 'approve only the plan of this hash')
    .action((id: string, options: { plan?: string }) =>
      run((cli) =>
        onOperation(cli, id, async (handle) => handle.approve(options.plan ?? (await handle.record()).proposal?.hash)),
      ),
    );

  host({
    name: 'cordon',
    description: 'place no VM on a host from now on; those on it stay',
    notes: ['An evacuation cordons its host by itself.'],
    examples: [['hostevac cordon node-a', 'before a maintenance window']],
  }).action((name: string) => run((cli) => onHost(cli, name, (producer) => producer.cordon(name))));

  host({
    name: 'uncordon',
    description: 'VMs may be placed on a host again',
    notes: [],
    examples: [['hostevac uncordon node-a', 'maintenance is over']],
  }).action((name: string) => run((cli) => onHost(cli, name, (producer) => producer.uncordon(name))));
}

function addConfirmDown(program: Command, run: Run): void {
  const command = program.command('confirm-down <host>');
  describe(command, {
    name: 'confirm-down',
    description: 'say that a host is down for good, so that nothing waits for it any more',
    notes: [
      'Only for a host that has been fenced (powered off, or cut off from network and storage): its VMs are taken for lost,',
      'bandwidth counted for it is given back, a post-copy from or to it is given up. Refused while the host answers.',
      'It is over by itself when the host answers again.',
    ],
    examples: [['hostevac confirm-down node-a --yes', 'node-a burned down in the middle of its evacuation']],
  });
  command
    .option('--yes', 'it has been fenced')
    .action((name: string, { yes }: { yes?: boolean }) => run((cli) => confirmDown(cli, name, yes === true)));
}

function confirmDown(cli: Cli, name: string, fenced: boolean): Promise<number> {
  if (!fenced) {
    const message = `is not assumed: a host that is only silent may still run its VMs`;
    const remedy = `fence ${printable(name)} (power it off), then say so with --yes`;
    throw badInput([{ path: '--yes', value: '', message, remedy }]);
  }
  return onHost(cli, name, (producer) => producer.confirmDown(name, userName()));
}

function describe(command: Command, { description, notes, examples }: ControlText): Command {
  return command.description(description).addHelpText('after', helpAfter({ notes, examples, codes: SIMPLE_CODES }));
}

type Handle = Awaited<ReturnType<Producer['operation']>>;

function onOperation(cli: Cli, id: string, act: (handle: Handle) => Promise<ControlOutcome>): Promise<number> {
  const fleet = cli.findFleet();
  return withSession(cli, fleet, async ({ producer }) => {
    const outcome = await act(await findOperation(producer, id, fleet));
    return report(cli, { operation: id }, outcome);
  });
}

function onHost(cli: Cli, host: string, act: (producer: Producer) => Promise<ControlOutcome>): Promise<number> {
  const fleet = cli.requireFleet();
  requireHosts(fleet, [host], '<host>');
  return withSession(cli, fleet, async ({ producer }) => report(cli, { host }, await act(producer)));
}

function report(cli: Cli, subject: Readonly<Record<string, string>>, outcome: ControlOutcome): number {
  cli.output.result({ ...subject, changed: outcome.changed, message: outcome.message });
  cli.output.lines([printable(outcome.message)]);
  return EXIT.done;
}
