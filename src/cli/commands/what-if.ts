/** `hostevac what-if <vm>`: what a move would cost the guest at every aggression, from what it does now. */
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import { ENDED_OPERATION_STATES } from '../../domain/operation.ts';
import type { Producer, WhatIfStage } from '../../queue/producer.ts';
import { MEASURING_MS } from '../../runtime/measure.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, INTERRUPTIBLE_CODES, policyNotes } from '../help.ts';
import { type WhatIfOptions, whatIfRequest } from '../options.ts';
import { endsIn } from '../progress/estimate.ts';
import { withSession } from '../session.ts';
import { catchInterrupt, exitCodeOfSignal, Interrupted } from '../signals.ts';
import { printable } from '../text.ts';
import { whatIfLines } from '../what-if-text.ts';
import { addPolicyOptions } from './request-options.ts';

export function addWhatIf(program: Command, run: Run): void {
  addPolicyOptions(
    program
      .command('what-if <vm>')
      .description('measure a VM now and show what moving it would cost at every aggression; changes nothing')
      .option('--to <host>', 'the way to this host is assumed (default: where an evacuation would put it)'),
  )
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'The worker that serves its host looks at the guest for about three seconds, without slowing it. Nine of ten outcomes',
          'lie in the interval behind each figure. * marks what the policy would do.',
          '',
          ...policyNotes('maintenance'),
        ],
        examples: [
          ['hostevac what-if db-1', 'before an evacuation'],
          ['hostevac what-if db-1 --to node-b --aggression 0.2', 'mark another aggression'],
          ['hostevac what-if db-1 --max-time 30s --min-cpu 0.2', 'can that be had?'],
          ["hostevac what-if db-1 -o json | jq '.rows[] | select(.chosen)'", 'for scripts'],
        ],
        codes: INTERRUPTIBLE_CODES,
      }),
    )
    .action((vm: string, options: WhatIfOptions) => run((cli) => whatIf(cli, vm, options)));
}

async function whatIf(cli: Cli, vm: string, options: WhatIfOptions): Promise<number> {
  const fleet = cli.requireFleet();
  const input = whatIfRequest(vm, options, fleet);
  const interruption = catchInterrupt();
  const measuring = new MeasuringLine(cli);
  try {
    return await withSession(
      cli,
      fleet,
      async ({ producer }) => {
        const onStage = (stage: WhatIfStage) => measuring.show(stage);
        const answer = await producer.whatIf(input, { signal: interruption.signal, onStage });
        measuring.clear();
        cli.output.result(answer);
        cli.output.lines(whatIfLines(answer, cli.output.columns(), cli.output.paint));
        if (answer.state === 'migrating') cli.output.lines(await followHint(cli, producer, vm));
        return EXIT.done;
      },
      { policies: true },
    );
  } catch (error) {
    if (error instanceof Interrupted) return exitCodeOfSignal(error.signal);
    throw error;
  } finally {
    measuring.clear();
    interruption.dispose();
  }
}

/** Which operation moves it, when one of ours does, and when that ends. */
async function followHint(cli: Cli, producer: Producer, vm: string): Promise<string[]> {
  const records = await producer.operations();
  const moving = records.find(
    ({ state, tasks }) => !ENDED_OPERATION_STATES.has(state) && tasks.some((task) => task.vm === vm),
  );
  if (moving === undefined) return [];
  const moves = await (await producer.operation(moving.id)).moves();
  const progress = moves.find((move) => move.vm === vm)?.progress ?? null;
  const end = progress === null ? '' : ` It ends in ${endsIn(progress)}.`;
  return [`Operation ${moving.id} moves it.${end} Follow it with: ${cli.command} watch ${moving.id}`];
}

/** `measuring web-1 on node-a, 3 s`, on a terminal and gone afterwards. */
class MeasuringLine {
  readonly #stream: NodeJS.WriteStream;
  #shown = false;

  constructor({ stderr }: Cli) {
    this.#stream = stderr;
  }

  show({ vm, host }: WhatIfStage): void {
    if (this.#stream.isTTY !== true) return;
    this.#shown = true;
    this.#stream.write(`measuring ${printable(vm)} on ${printable(host)}, ${MEASURING_MS / 1_000} s`);
  }

  clear(): void {
    if (this.#shown) this.#stream.write('\r\u001b[K');
    this.#shown = false;
  }
}
