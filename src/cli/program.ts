/** The command line as a whole: global options, all commands, and how help looks. What a command does is in `commands/`. */
import { Command, Option } from 'commander';
import type { GlobalOptions, Run } from './cli.ts';
import { addAudit } from './commands/audit.ts';
import { addBalance } from './commands/balance.ts';
import { addControls } from './commands/control.ts';
import { addDemo } from './commands/demo.ts';
import { addDoctor } from './commands/doctor.ts';
import { addEvacuate } from './commands/evacuate.ts';
import { addLab } from './commands/lab.ts';
import { addRelease } from './commands/release.ts';
import { addServe } from './commands/serve.ts';
import { addStatus } from './commands/status.ts';
import { addToken } from './commands/token.ts';
import { addUp } from './commands/up.ts';
import { addWatch } from './commands/watch.ts';
import { addWhatIf } from './commands/what-if.ts';
import { addWorker } from './commands/worker.ts';
import { logLevels } from './log.ts';

export interface ProgramOptions {
  readonly version: string;
  readonly writeOut: (text: string) => void;
  readonly writeErr: (text: string) => void;
  /** Runs what a command does, with the global options as they were given. */
  readonly run: (options: GlobalOptions, action: Parameters<Run>[0]) => Promise<void>;
}

/** Throws `CommanderError` instead of ending the process. */
export function buildProgram({ version, writeOut, writeErr, run }: ProgramOptions): Command {
  const program = new Command('hostevac');
  program
    .exitOverride()
    .configureOutput({ writeOut, writeErr })
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .showHelpAfterError('(--help shows what is possible)')
    .description('Empties hypervisor hosts and evens out their load by live-migrating the VMs on them.')
    .version(version, '-V, --version', 'print the version')
    .option('--fleet <file>', 'fleet file (default: HOSTEVAC_FLEET, else fleet.yaml here)')
    .addOption(
      new Option('-o, --output <format>', 'form of the result on stdout').choices(['text', 'json']).default('text'),
    )
    .addOption(
      new Option('--log-level <level>', 'logs on stderr (default: info for up, serve and worker, else warn)').choices(
        logLevels,
      ),
    )
    .addHelpText(
      'after',
      [
        '',
        'A first look, touching nothing of yours: hostevac demo',
        'Environment: HOSTEVAC_FLEET, HOSTEVAC_STATE_DIR, REDIS_URL, NO_COLOR, HOSTEVAC_DEBUG=1 (stack traces)',
      ].join('\n'),
    );
  const bound: Run = (action) => run(program.opts<GlobalOptions>(), action);
  addUp(program, bound);
  addServe(program, bound);
  addWorker(program, bound);
  addEvacuate(program, bound);
  addBalance(program, bound);
  addWhatIf(program, bound);
  addStatus(program, bound);
  addWatch(program, bound);
  addControls(program, bound);
  addRelease(program, bound);
  addDoctor(program, bound);
  addToken(program, bound);
  addAudit(program, bound);
  addDemo(program, bound);
  addLab(program, bound);
  return program;
}
