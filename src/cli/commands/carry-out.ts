/** From a request that was taken to the exit code: what `evacuate`, `balance`, `watch` and `demo` share. */
import { type ErrorCode, HostevacError } from '../../domain/errors.ts';
import { needsApproval, type OperationRecord } from '../../domain/operation.ts';
import type { OperationHandle, Producer } from '../../queue/producer.ts';
import type { Cli } from '../cli.ts';
import { endingOf, exitCodeOf } from '../exit.ts';
import type { CliLog } from '../log.ts';
import { type Followed, follow } from '../progress/follow.ts';
import { liveView } from '../progress/live.ts';
import { plainView } from '../progress/plain.ts';
import { titleOf } from '../progress/screen.ts';
import { noView, type ProgressView } from '../progress/view.ts';
import { catchInterrupt, exitCodeOfSignal, Interrupted, type Interruption } from '../signals.ts';
import { summaryLines } from '../summary.ts';
import { printable } from '../text.ts';

export interface WatchOptions {
  readonly cli: Cli;
  readonly producer: Producer;
  readonly handle: OperationHandle;
  readonly log: CliLog;
  readonly timeoutMs: number | null;
  /** The caller's own; then `Interrupted` is thrown to it. */
  readonly interruption?: Interruption;
  /** End when nobody reads stdout any more; the command is for looking only. */
  readonly endWithReader?: boolean;
  /** What to try next, in place of what the summary would suggest. */
  readonly nextSteps?: readonly string[];
}

/** Shows the operation to its end, then its summary (or its result as JSON). The exit code of the contract. */
export async function watchToEnd(options: WatchOptions): Promise<number> {
  const { cli, handle } = options;
  const interruption = options.interruption ?? catchInterrupt();
  const signal =
    options.endWithReader === true
      ? AbortSignal.any([interruption.signal, cli.output.readerGone])
      : interruption.signal;
  try {
    const { result, record } = await followWith(options, viewFor(options), signal);
    const reason: ErrorCode | null = record.reason?.code ?? null;
    cli.output.result(result);
    const { paint } = cli.output;
    const { nextSteps } = options;
    const summary = {
      columns: cli.output.columns(),
      paint,
      reason: record.reason,
      command: cli.command,
      ...(nextSteps === undefined ? {} : { nextSteps }),
    };
    cli.output.lines(['', ...summaryLines(result, summary)]);
    return exitCodeOf(endingOf(result, reason));
  } catch (error) {
    if (error instanceof Interrupted && options.interruption === undefined) {
      if (error.signal !== 'SIGPIPE') cli.output.remark(detached(cli, handle.id));
      return exitCodeOfSignal(error.signal);
    }
    if (error instanceof HostevacError && error.code === 'timeout') throw stillRunning(cli, handle.id, error);
    throw error;
  } finally {
    if (options.interruption === undefined) interruption.dispose();
  }
}

function followWith(options: WatchOptions, view: ProgressView, signal: AbortSignal): Promise<Followed> {
  const { cli, handle, producer, timeoutMs } = options;
  return follow({ handle, producer, view, signal, timeoutMs, startHint: `${cli.command} up` });
}

/**
 * On a terminal the live display; elsewhere lines. Stdout belongs to the result with `-o json`: then the display goes to
 * stderr if that is a terminal, and lines are left out.
 */
function viewFor({ cli, handle, log }: WatchOptions): ProgressView {
  const stream = cli.output.json ? cli.stderr : cli.stdout;
  const paint = cli.output.json ? cli.output.stderrPaint : cli.output.paint;
  if (stream.isTTY === true && cli.env['TERM'] !== 'dumb') {
    const view = liveView({ stream, paint, command: cli.command });
    const above = cli.stderr.isTTY === true ? (line: string) => view.above(line) : null;
    log.redirect(above);
    cli.output.redirectRemarks(above);
    return {
      ...view,
      close() {
        view.close();
        log.redirect(null);
        cli.output.redirectRemarks(null);
      },
    };
  }
  if (cli.output.json) return remarksOnly(cli, handle.id);
  return plainView({ operationId: handle.id, write: (line) => cli.output.lines([line]), now: Date.now });
}

/** Where stdout is the result's: of all there is to see, that somebody must do something before it goes on. */
function remarksOnly(cli: Cli, id: string): ProgressView {
  let told: string | null = null;
  return {
    ...noView,
    snapshot({ record: { proposal } }) {
      if (proposal !== null && proposal.hash !== told)
        cli.output.remark(
          `Plan ${proposal.hash} waits for approval: ${cli.command} status ${id} shows it, ${cli.command} approve ${id} lets it begin`,
        );
      told = proposal?.hash ?? told;
    },
  };
}

function detached(cli: Cli, id: string): string {
  return `Detached. Operation ${id} goes on; follow it again with: ${cli.command} watch ${id}   end it with: ${cli.command} cancel ${id}`;
}

function stillRunning(cli: Cli, id: string, error: HostevacError): HostevacError {
  const message = `the wait has timed out; operation ${id} goes on, follow it with: ${cli.command} watch ${id}`;
  return new HostevacError('timeout', message, { cause: error });
}

/** On stderr, with `-o json` too. */
export function warn(cli: Cli, warnings: readonly string[]): void {
  for (const warning of warnings) cli.output.remark(`warning: ${printable(warning)}`);
}

/** Says how the request was taken and how to follow it; for a request that is not waited for. */
export async function announce(cli: Cli, producer: Producer, handle: OperationHandle): Promise<void> {
  const [record, workers] = await Promise.all([handle.record(), producer.hasWorkers()]);
  cli.output.result({
    id: handle.id,
    kind: record.request.kind,
    state: record.state,
    acceptance: handle.acceptance,
    workersAlive: workers,
    warnings: handle.warnings,
  });
  const steps = [`Follow it with: ${cli.command} watch ${handle.id}`];
  if (needsApproval(record))
    steps.push(
      `Its plan: ${cli.command} status ${handle.id}   Nothing is done before: ${cli.command} approve ${handle.id}`,
    );
  cli.output.lines([acceptedLine(record, handle), ...steps]);
  if (!workers) {
    cli.output.remark(
      `No worker is running: the request is kept, and carried out when one starts (${cli.command} up).`,
    );
  }
}

/** Which operation it is, also for one that is waited for: a terminal may be closed. */
export function acceptedLine(record: OperationRecord, handle: OperationHandle): string {
  return `${titleOf(record)}: operation ${handle.id}, ${acceptanceText(handle.acceptance)}`;
}

function acceptanceText(acceptance: OperationHandle['acceptance']): string {
  switch (acceptance) {
    case 'created':
      return 'created';
    case 'joined':
      return 'joined: an evacuation of this host was already running, this is that one';
    case 'repeated':
      return 'repeated: the same idempotency key was used before, this is the operation it made';
  }
}
