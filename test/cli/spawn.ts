/** The built command line as a child process: run to its end, or started and talked to. Every one is ended with its test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { until } from '../support/condition.ts';

/** `npm run build` makes it; HOSTEVAC_TEST_CLI names another one (an installed package). */
export const PROGRAM =
  process.env['HOSTEVAC_TEST_CLI'] ?? fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Command {
  readonly child: ChildProcess;
  stdout = '';
  stderr = '';
  readonly ended: Promise<Ended>;

  /** `within`: a program and its arguments that run it, such as `unshare --mount`. */
  constructor(
    args: readonly string[],
    options: { readonly env: NodeJS.ProcessEnv; readonly cwd: string; readonly within?: readonly string[] },
  ) {
    if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} is not there: run npm run build first`);
    const [program = '', ...rest] = [...(options.within ?? []), process.execPath, PROGRAM, ...args];
    const child = spawn(program, rest, {
      env: options.env,
      cwd: options.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that a test can end all of it as a terminal would.
      detached: true,
    });
    this.child = child;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve({ code, signal, stdout: this.stdout, stderr: this.stderr }));
    });
  }

  get pid(): number {
    const { pid } = this.child;
    if (pid === undefined) throw new Error('it did not start');
    return pid;
  }

  async says(text: string | RegExp, limitMs = 20_000): Promise<void> {
    const found = () => (typeof text === 'string' ? this.stdout.includes(text) : text.test(this.stdout));
    try {
      await until(() => found() || this.child.exitCode !== null, limitMs, `stdout with ${text}`);
      if (!found()) throw new Error(`it ended (${this.child.exitCode}) without saying ${text}`);
    } catch (error) {
      throw new Error(
        `${error instanceof Error ? error.message : error}\n--- stdout\n${this.stdout}\n--- stderr\n${this.stderr}`,
      );
    }
  }

  /** The signal to all of its process group, as the terminal's Ctrl-C and a `kill -9 -<pgid>` do. */
  signalGroup(signal: NodeJS.Signals): void {
    process.kill(-this.pid, signal);
  }

  async kill(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.signalGroup('SIGKILL');
    await this.ended;
  }
}

/** The surroundings of a user: nothing of the machine's own settings, a state directory of its own. */
export function userEnv(stateDir: string, over: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const { PATH, HOME } = process.env;
  return { PATH, HOME, TMPDIR: stateDir, HOSTEVAC_STATE_DIR: stateDir, ...over };
}
