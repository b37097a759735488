/** `hostevac doctor [host...]`: what is wrong with a place before a VM finds out, and how to mend it. Changes nothing. */
import type { Command } from 'commander';
import { examine } from '../../doctor/examine.ts';
import { EXIT, HostevacError } from '../../domain/errors.ts';
import type { Fleet } from '../../domain/fleet.ts';
import type { Cli, Run } from '../cli.ts';
import { reportLines } from '../doctor-text.ts';
import { DOCTOR_CODES, helpAfter } from '../help.ts';
import { requireHosts } from '../hosts.ts';
import { catchInterrupt, exitCodeOfSignal, Interrupted } from '../signals.ts';

export function addDoctor(program: Command, run: Run): void {
  program
    .command('doctor [hosts...]')
    .description('check this machine, Redis, the workers and the hosts, and say what to mend; changes nothing')
    .option('--bandwidth', 'also measure what the network between hosts of this machine carries (3 seconds each)')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'Run it on every machine that a worker runs on, as the user and with the environment of that worker: it sees what',
          'can be seen from there. Without hosts it looks at all of the fleet file. Every check is bounded in time.',
          'A warning is no failure: it says what will hurt one day.',
        ],
        examples: [
          ['hostevac doctor', 'all of it'],
          ['hostevac doctor node-a --bandwidth', 'one host, and what its link carries'],
          [`hostevac doctor -o json | jq '.findings[] | select(.verdict == "fault")'`, 'for scripts'],
        ],
        codes: DOCTOR_CODES,
      }),
    )
    .action((hosts: string[], flags: { readonly bandwidth?: boolean }) => run((cli) => doctor(cli, hosts, flags)));
}

async function doctor(cli: Cli, hosts: readonly string[], flags: { readonly bandwidth?: boolean }): Promise<number> {
  const fleet = fleetOrFault(cli);
  if (!(fleet instanceof HostevacError)) requireHosts(fleet, hosts, '[hosts]');
  const interruption = catchInterrupt();
  try {
    const report = await examine({
      fleet,
      hosts,
      bandwidth: flags.bandwidth === true,
      env: cli.env,
      signal: interruption.signal,
      progress: (line) => cli.output.remark(line),
    });
    cli.output.lines(reportLines(report, cli.output.paint));
    cli.output.result(report);
    return report.verdict === 'fault' ? EXIT.failed : EXIT.done;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    return exitCodeOfSignal(error.signal);
  } finally {
    interruption.dispose();
  }
}

/** A fleet file that is missing or wrong is a finding: the rest is looked at all the same. */
function fleetOrFault(cli: Cli): Fleet | HostevacError {
  try {
    return cli.requireFleet();
  } catch (error) {
    if (error instanceof HostevacError && (error.code === 'badInput' || error.code === 'fleetFileMissing'))
      return error;
    throw error;
  }
}
