/**
 * How a failed command speaks: one line, every problem with its remedy, a stable code in JSON; never a stack trace unless
 * HOSTEVAC_DEBUG asks for it. Pure; `main.ts` prints it and exits.
 */
import { CommanderError } from 'commander';
import { EXIT, HostevacError, type Problem } from '../domain/errors.ts';
import { printable } from './text.ts';

export interface Failure {
  readonly exitCode: number;
  /** For stderr; empty when there is nothing to add (help was shown, or commander has spoken). */
  readonly text: string;
  /** For stdout with `-o json`; null when nothing failed. */
  readonly json: { readonly error: { code: string; message: string; problems: readonly Problem[] } } | null;
}

/** What any thrown value means to the user. */
export function failureOf(error: unknown, env: NodeJS.ProcessEnv): Failure {
  if (error instanceof CommanderError) return usageFailure(error);
  const debug = env['HOSTEVAC_DEBUG'];
  const trace = debug !== undefined && debug !== '' && error instanceof Error ? `\n${traceOf(error)}` : '';
  if (error instanceof HostevacError) {
    return {
      exitCode: error.exitCode,
      text: errorText(error.message, error.problems) + trace,
      json: { error: { code: error.code, message: error.message, problems: error.problems } },
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  const text = `internal error: ${message} (a fault of ours; HOSTEVAC_DEBUG=1 shows where, please report it)`;
  return {
    exitCode: EXIT.failed,
    text: errorText(text, []) + trace,
    json: { error: { code: 'internal', message, problems: [] } },
  };
}

/** Commander has printed its own line by the time it throws. `--help` and `--version` are no failures. */
function usageFailure(error: CommanderError): Failure {
  if (error.exitCode === 0) return { exitCode: EXIT.done, text: '', json: null };
  const message = error.code === 'commander.help' ? 'no command was given' : error.message.replace(/^error: /, '');
  return { exitCode: EXIT.usage, text: '', json: { error: { code: 'badInput', message, problems: [] } } };
}

function errorText(message: string, problems: readonly Problem[]): string {
  const lines = [`hostevac: ${message.split('\n').map(printable).join('\n')}`];
  // A message that already lists its problems is not repeated.
  const untold = problems.filter((problem) => problem.remedy === '' || !message.includes(problem.remedy));
  lines.push(...untold.map(problemText));
  return lines.join('\n');
}

/** `  --aggression -0.5: expected a number from 0 to 1; give a share such as 0.5`. */
function problemText(problem: Problem): string {
  const value = problem.value === '' ? '' : ` ${problem.value}`;
  const remedy = problem.remedy === '' || problem.remedy === problem.message ? '' : `; ${problem.remedy}`;
  return `  ${printable(`${problem.path}${value}: ${problem.message}${remedy}`)}`;
}

function traceOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${traceOf(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
}

/** True when the command line asks for JSON, read without commander: its own errors must be JSON too. */
export function wantsJson(argv: readonly string[]): boolean {
  return argv.some(
    (arg, index) =>
      arg === '-ojson' ||
      arg === '--output=json' ||
      ((arg === '-o' || arg === '--output') && argv[index + 1] === 'json'),
  );
}
