/** `hostevac demo`: a simulated fleet of its own, one host of it emptied before the user's eyes, and nothing left behind. */
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { HostevacError } from '../../domain/errors.ts';
import { createProducer } from '../../queue/create-producer.ts';
import type { Producer } from '../../queue/producer.ts';
import { loadFleet, packageFile } from '../../runtime/fleet-source.ts';
import { PRESETS_ONLY } from '../../runtime/policy-modules.ts';
import type { Cli, Run } from '../cli.ts';
import { type Closer, closeAll } from '../closers.ts';
import { fleetLines } from '../fleet-text.ts';
import { helpAfter, WAITING_CODES } from '../help.ts';
import { openRedisSource } from '../session.ts';
import { catchInterrupt, exitCodeOfSignal, Interrupted } from '../signals.ts';
import { printable, shellWord } from '../text.ts';
import { watchToEnd } from './carry-out.ts';
import { startCrew } from './crew.ts';
import { makeDemoPlace, removeStaleDemoPlaces } from './demo-places.ts';

/** Nothing in a demo is worth waiting for at its end. */
const CLOSE_GRACE_MS = 2_000;
const READY_WITHIN_MS = 20_000;

export function addDemo(program: Command, run: Run): void {
  program
    .command('demo')
    .description('watch a simulated host being emptied, in under a minute; touches nothing of yours')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'Runs everything in this process, with a Redis of its own in a temporary directory; REDIS_URL and your fleet file',
          'are not used. The fleet is docs/examples/demo.yaml of this package.',
        ],
        examples: [['hostevac demo', 'Ctrl-C ends it, and the fleet with it']],
        codes: WAITING_CODES,
      }),
    )
    .action(() => run(demo));
}

async function demo(cli: Cli): Promise<number> {
  const file = packageFile('docs/examples/demo.yaml');
  if (file === undefined) {
    throw new HostevacError('internal', 'docs/examples/demo.yaml is missing from this package; install it again');
  }
  const { fleet } = loadFleet({ path: file });
  const host = fleet.hosts[0]?.name ?? '';
  const log = cli.openLog('warn');
  const interruption = catchInterrupt();
  const closers: Closer[] = [];
  try {
    await removeStaleDemoPlaces(tmpdir());
    const place = await makeDemoPlace(tmpdir());
    closers.push(() => rm(place, { recursive: true, force: true }));
    const { REDIS_URL: _redis, HOSTEVAC_FLEET: _fleet, ...env } = cli.env;
    const own = { output: cli.output, env: { ...env, HOSTEVAC_STATE_DIR: place } };
    const source = await openRedisSource(own, { supervise: true });
    closers.push(() => source.close());
    interruption.signal.throwIfAborted();
    const hosts = fleet.hosts.map((entry) => entry.name);
    const connection = source.target.options;
    const crew = await startCrew({
      fleet,
      policies: PRESETS_ONLY,
      connection,
      log: log.logger,
      stateDir: place,
      hosts,
      operations: true,
    });
    closers.push(() => crew.close(CLOSE_GRACE_MS));
    const producer = await createProducer({ connection, fleet });
    closers.push(() => producer.close());
    await ready(producer, interruption.signal);

    cli.output.lines([
      ...fleetLines(fleet, cli.output.columns(), cli.output.paint),
      '',
      `Emptying ${printable(host)}, as this does: hostevac evacuate ${shellWord(host)} --wait`,
      '',
    ]);
    const handle = await producer.evacuateNode({ host });
    const code = await watchToEnd({
      cli,
      producer,
      handle,
      log,
      timeoutMs: null,
      interruption,
      nextSteps: nextSteps(cli.command, file, fleet.hosts[1]?.name ?? host),
    });
    return code;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    cli.output.remark('The demo has ended, and its fleet with it; nothing is left behind.');
    return exitCodeOfSignal(error.signal);
  } finally {
    await closeAll(closers, 2 * CLOSE_GRACE_MS, (problem) => log.logger.debug(problem));
    interruption.dispose();
  }
}

/** Until every host has been seen by its worker: before that there is nothing to plan with. */
async function ready(producer: Producer, signal: AbortSignal): Promise<void> {
  const until = performance.now() + READY_WITHIN_MS;
  for (;;) {
    signal.throwIfAborted();
    const hosts = await producer.hosts();
    if (hosts.length > 0 && hosts.every((host) => host.inventoryAgeMs !== null)) return;
    if (performance.now() > until) {
      throw new HostevacError('internal', `the simulated hosts have not reported within ${READY_WITHIN_MS / 1_000} s`);
    }
    await sleep(100);
  }
}

/** To be pasted into a shell: the same fleet, but one that stays. */
function nextSteps(command: string, file: string, other: string): string[] {
  const near = relative(process.cwd(), file);
  const fleet = shellWord(near.startsWith('..') ? file : near);
  return [
    `export HOSTEVAC_FLEET=${fleet}`,
    `${command} up    # in one terminal: this fleet, kept until you end it`,
    `${command} evacuate ${shellWord(other)} --dry-run    # in another: where would its VMs go?`,
    `${command} evacuate ${shellWord(other)} --aggression 1 --wait    # throttle deeper, less harm in all`,
    `${command} status`,
  ];
}
