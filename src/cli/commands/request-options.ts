/** The options that `evacuate` and `balance` share, with the words of their help. */
import type { Command } from 'commander';
import { policyNames, throttlingNames } from '../../domain/policy.ts';

export function addRequestOptions(command: Command): Command {
  return command
    .option('--policy <name>', `preset to start from: ${policyNames.join(' or ')}`)
    .option(
      '--aggression <0..1>',
      'how hard guests may be throttled to finish: 0 as little as possible, 1 down to min CPU',
    )
    .option('--min-cpu <0..1>', 'a guest always gets this share of the CPU that it demands')
    .option('--max-stall <duration>', 'longest stretch without CPU, switchover included, such as 300ms')
    .option('--max-time <duration>', 'longest time for one migration, such as 10m; then it is aborted')
    .option(
      '--max-bandwidth <rate>',
      'cap for one migration, such as 40MiB/s or 1Gbit/s (default: what the hosts have)',
    )
    .option(
      `--throttling <${throttlingNames.join('|')}>`,
      'where guests cannot be throttled (rights, cgroups): move nothing, or go on without (default: required)',
    )
    .option('--deadline <duration>', 'for the whole operation, such as 30m; then no move starts and running ones abort')
    .option('--dry-run', 'show the plan and change nothing')
    .option('--wait', 'show progress and wait for the end')
    .option('--timeout <duration>', 'with --wait: stop waiting after this (exit code 5); the operation goes on')
    .option('--idempotency-key <key>', 'the same key again gives the same operation instead of another one');
}
