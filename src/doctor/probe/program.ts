/** Running another program for its answer: without a shell, bounded in time and in words. */
import { execFile } from 'node:child_process';
import { entering } from '../../runtime/network-namespace.ts';

export interface Ran {
  /** null: it could not be run, or did not end in time. */
  readonly code: number | null;
  readonly stdout: string;
  /** What it complained about, or why it could not be run; one line. */
  readonly complaint: string;
}

export interface RunOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** A name of `ip netns`; null: here. */
  readonly networkNamespace?: string | null;
  /** For its stdin; none: it reads nothing. */
  readonly input?: string;
}

export function runProgram(program: string, args: readonly string[], options: RunOptions): Promise<Ran> {
  const { env, timeoutMs, signal } = options;
  const [file = program, ...rest] = [...entering(options.networkNamespace ?? null), program, ...args];
  return new Promise((resolve) => {
    // What it says is read by us, so it is to say it in English.
    const surroundings = { ...env, LC_ALL: 'C', LANG: 'C' };
    const child = execFile(
      file,
      rest,
      { env: surroundings, timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 8 * 2 ** 20, signal },
      (error, stdout, stderr) => {
        if (error === null) return resolve({ code: 0, stdout, complaint: oneLine(stderr) });
        const code = typeof error.code === 'number' ? error.code : null;
        const why =
          String(error.code) === 'ENOENT'
            ? 'is not in PATH'
            : error.killed === true
              ? `did not answer within ${timeoutMs / 1_000}s`
              : oneLine(stderr) || (code === null ? error.message : `exit code ${code}`);
        return resolve({ code, stdout, complaint: why });
      },
    );
    // It may have ended before it has read all: then its exit says why.
    child.stdin?.on('error', () => undefined).end(options.input ?? '');
  });
}

function oneLine(text: string): string {
  return text
    .split('\n')
    .map((line) => line.trim().replace(/^error: /, ''))
    .filter((line) => line !== '')
    .join('; ')
    .slice(0, 400);
}
