#!/usr/bin/env node
/** The program `hostevac`: runs the command line in this process and ends it. Everything else is in `run.ts`. */
import process from 'node:process';
import { wantsJson } from './failure.ts';
import { run, tell } from './run.ts';

const argv = process.argv.slice(2);

/** A fault that nobody caught must still be a sentence, and must not leave a worker half alive. */
const onFault = (error: unknown): never => process.exit(tell(error, wantsJson(argv), process));
process.on('uncaughtException', onFault);
process.on('unhandledRejection', onFault);

// A reader that has gone is no fault: `output.ts` drops what follows.
process.stdout.on('error', () => undefined);

const exitCode = await run(argv, process);
// Everything is closed by now; what a library still has pending (ioredis: 2 s) must not keep the shell waiting.
await Promise.all([process.stdout, process.stderr].map(written));
process.exit(exitCode);

function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => resolve());
  });
}
