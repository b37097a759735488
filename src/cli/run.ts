/** One run of the command line: from arguments to an exit code. Whatever goes wrong, the user reads sentences. */
import { EXIT } from '../domain/errors.ts';
import { packageVersion } from '../runtime/package-version.ts';
import { openCli, type Surroundings } from './cli.ts';
import { failureOf, wantsJson } from './failure.ts';
import { buildProgram } from './program.ts';

export async function run(argv: readonly string[], surroundings: Surroundings): Promise<number> {
  let exitCode: number = EXIT.done;
  const json = wantsJson(argv);
  // Commander's own complaints are plain text: with `-o json` they become JSON below.
  const program = buildProgram({
    version: packageVersion(),
    writeOut: (text) => surroundings.stdout.write(text),
    writeErr: (text) => json || surroundings.stderr.write(text),
    run: async (options, action) => {
      exitCode = await action(openCli(surroundings, options));
    },
  });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return exitCode;
  } catch (error) {
    return tell(error, json, surroundings);
  }
}

/** Prints a failure where it belongs; its exit code. */
export function tell(error: unknown, json: boolean, { env, stdout, stderr }: Surroundings): number {
  const failure = failureOf(error, env);
  if (json && failure.json !== null) stdout.write(`${JSON.stringify(failure.json)}\n`);
  if (!json && failure.text !== '') stderr.write(`${failure.text}\n`);
  return failure.exitCode;
}
