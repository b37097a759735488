/** The options that `evacuate`, `balance` and `what-if` share, with the words of their help. */
import type { Command } from 'commander';
import { nonMigratableChoices } from '../../domain/non-migratable.ts';
import {
  controllerNames,
  deadlineActions,
  policyNames,
  throttlingNames,
  yieldingRequirements,
} from '../../domain/policy.ts';

export function addPolicyOptions(command: Command): Command {
  return command
    .option('--policy <name>', `${policyNames.join(', ')}, or a policy of the fleet file`)
    .option(
      '--aggression <0..1>',
      'how deep a guest may be throttled for less harm in all: 0 gently, at up to 1.3 times the least harm, 1 for the least',
    )
    .option('--min-cpu <share>', 'a guest always gets this share of the CPU that it demands: 0.3 or 30%')
    .option('--max-stall <duration>', 'longest stretch without CPU, switchover included, such as 300ms')
    .option('--max-time <duration>', 'longest time for one migration, such as 10m; then --at-deadline')
    .option(`--at-deadline <${deadlineActions.join('|')}>`, 'what a migration does when its max time is over')
    .option(`--controller <${controllerNames.join('|')}>`, 'what decides about throttling (default: leastHarm)')
    .option(
      '--precedence <a,b,c>',
      `which requirement is kept longest where not all can be: ${yieldingRequirements.join(', ')} in some order`,
    )
    .option(
      '--max-bandwidth <rate>',
      'cap for one migration, such as 40MiB/s or 1Gbit/s (default: what the hosts have)',
    )
    .option(
      `--throttling <${throttlingNames.join('|')}>`,
      'where guests cannot be throttled (rights, cgroups): move nothing, or go on without (default: required)',
    );
}

export function addRequestOptions(command: Command): Command {
  return addPolicyOptions(command)
    .option(
      '--vm <name:key=value,...>',
      'for one VM only: policy, aggression, min-cpu, max-stall, max-time, max-bandwidth, at-deadline, throttling; may be repeated',
      collect,
    )
    .option('--deadline <duration>', 'for the whole operation, such as 30m; then no move starts and running ones abort')
    .option('--dry-run', 'show the plan and change nothing')
    .option(
      '--approve-first',
      'make the plan, and do nothing before somebody approves it: hostevac approve <operation>',
    )
    .option('--wait', 'show progress and wait for the end')
    .option('--timeout <duration>', 'with --wait: stop waiting after this (exit code 5); the operation goes on')
    .option('--idempotency-key <key>', 'the same key again gives the same operation instead of another one');
}

export function addNonMigratableOptions(command: Command): Command {
  return command
    .option(
      `--non-migratable <${nonMigratableChoices.join('|')}>`,
      'what is done with VMs that cannot be migrated (default: block)',
    )
    .option('--shutdown-timeout <duration>', 'how long a guest has to shut down (default: 2m)');
}

/** For an option that may be repeated. */
export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}
