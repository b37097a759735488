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

process.exitCode = await run(argv, process);
// Everything is closed by now; a socket that is not must not keep the shell waiting.
setTimeout(() => process.exit(), 2_000).unref();
