/**
 * What happened, at the end: a table with one line per VM, one sentence, and what to try next. Pure; from an
 * `OperationResult`, so it says the same whether one waited for it or asks for it a day later.
 */
import type { ErrorCode } from '../domain/errors.ts';
import { formatDuration, formatShare, intervalText } from '../domain/format.ts';
import type { MoveResult, OperationResult, ShutdownResult } from '../domain/operation.ts';
import { MOVE_COLOUR } from './progress/screen.ts';
import { tableLines } from './table.ts';
import { counted, type Paint, printable, shellWord } from './text.ts';

export interface SummaryOptions {
  readonly columns: number;
  readonly paint: Paint;
  /** `reason.code` of the record; null when it is done. */
  readonly reason: { readonly code: ErrorCode; readonly message: string } | null;
  /** How the command is called here: `hostevac`, `npx hostevac`. */
  readonly command: string;
  /** In place of what would be suggested when all went well. */
  readonly nextSteps?: readonly string[];
}

export function summaryLines(result: OperationResult, options: SummaryOptions): string[] {
  const lines: string[] = [];
  if (result.moves.length > 0) lines.push(...moveTable(result.moves, options), '');
  lines.push(sentence(result, options));
  for (const one of result.shutdowns) if (one.state !== 'blocked') lines.push(`  ${shutdownLine(one)}`);
  for (const skipped of result.skipped)
    lines.push(`  ${printable(skipped.vm)} was left where it is: ${printable(skipped.reason)}`);
  for (const blocked of result.blocked) lines.push(`  ${printable(blocked.vm)}: ${printable(blocked.reason)}`);
  const next =
    result.state === 'done' && options.nextSteps !== undefined ? options.nextSteps : nextSteps(result, options);
  if (next.length > 0) lines.push('', 'Next:', ...next.map((line) => `  ${line}`));
  return lines;
}

function shutdownLine({ vm, state, tookMs, reason }: ShutdownResult): string {
  const how =
    tookMs !== null && tookMs > 0 ? `shut down in ${formatDuration(tookMs)}` : state === 'shutOff' ? 'off' : state;
  return `${printable(vm)}: ${how}${reason === null ? '' : `, ${printable(reason)}`}`;
}

function moveTable(moves: readonly MoveResult[], { columns, paint }: SummaryOptions): string[] {
  const predicted = moves.some((move) => move.predicted !== null);
  const withReason = moves.some((move) => move.reason !== null);
  return tableLines(
    [
      { title: 'VM', shrinkTo: 10 },
      { title: 'DESTINATION', shrinkTo: 8 },
      { title: 'STATE' },
      { title: 'TRIES', align: 'right', dropFirst: 4 },
      { title: 'TOTAL', align: 'right' },
      ...(predicted ? [{ title: 'PREDICTED', dropFirst: 4 }] : []),
      { title: 'DOWNTIME', align: 'right' },
      { title: 'SHARE MEAN', align: 'right', dropFirst: 3 },
      { title: 'MIN', align: 'right', dropFirst: 2 },
      { title: 'HARM', align: 'right', dropFirst: 1 },
      ...(withReason ? [{ title: 'REASON', shrinkTo: 12, dropFirst: 5 }] : []),
    ],
    moves.map((move) => {
      const ran = move.totalMs > 0;
      const figure = (text: string) => ({ text: ran ? text : '-' });
      return [
        { text: printable(move.vm) },
        { text: printable(move.destination) },
        { text: move.state, colour: MOVE_COLOUR[move.state] },
        { text: String(move.attempts) },
        figure(formatDuration(move.totalMs)),
        ...(predicted ? [{ text: predictedText(move) }] : []),
        figure(move.state === 'done' ? formatDuration(move.downtimeMs) : '-'),
        figure(formatShare(move.meanShare)),
        figure(formatShare(move.minShare)),
        figure(`${formatDuration(move.harmCpuMs)} CPU`),
        { text: move.reason === null ? '' : printable(move.reason) },
      ];
    }),
    columns,
    paint,
  );
}

/** Of the total time. */
function predictedText({ predicted }: MoveResult): string {
  return predicted === null ? '-' : intervalText(predicted.intervals.totalMs, formatDuration);
}

/** `node-a is empty: 7 VMs moved in 41s; longest downtime 210ms; most throttled: db-1 to 10%`. */
export function sentence(result: OperationResult, options: Pick<SummaryOptions, 'reason'>): string {
  const done = result.moves.filter((move) => move.state === 'done');
  const blocked = new Set(result.blocked.map((entry) => entry.vm));
  const jobs = [...result.moves, ...result.shutdowns];
  const failed = jobs.filter((job) => job.state === 'failed' && !blocked.has(job.vm)).length;
  const cancelled = jobs.filter((job) => job.state === 'cancelled').length;
  const off = result.shutdowns.filter((one) => one.state === 'shutOff').length;
  const skipped = result.skipped.length;
  const subject = result.host === null ? null : printable(result.host);
  const parts: string[] = [];
  if (done.length > 0) {
    const longest = done.reduce((a, b) => (b.downtimeMs > a.downtimeMs ? b : a));
    parts.push(`longest downtime ${formatDuration(longest.downtimeMs)} (${printable(longest.vm)})`);
    const hardest = done.reduce((a, b) => (b.minShare < a.minShare ? b : a));
    parts.push(
      hardest.minShare < 0.995
        ? `most throttled: ${printable(hardest.vm)} to ${formatShare(hardest.minShare)}`
        : 'no VM was throttled',
    );
  }
  const alsoOff = off > 0 ? `, ${off} shut down` : '';
  const moved = `${counted(done.length, 'VM')} moved${alsoOff} in ${formatDuration(result.makespanMs)}`;
  const because = options.reason === null ? '' : `: ${printable(options.reason.message)}`;
  const left = leftText({ failed, cancelled, blocked: result.blocked.length, skipped });
  const all = (head: string): string => [head, ...parts].join('; ');
  switch (result.state) {
    case 'done':
      if (skipped > 0) return all(`${subject ?? 'The balance'} is done, but not empty: ${moved}, ${left}`);
      if (jobs.length === 0) {
        return subject === null ? 'Nothing to move.' : `${subject} was already empty: nothing to move.`;
      }
      return all(subject === null ? moved : `${subject} is empty: ${moved}`);
    case 'partial':
      return all(
        `${subject === null ? 'Not everything moved' : `${subject} is not empty`}: ${moved}, ${left}${because}`,
      );
    case 'blocked':
      return `${subject === null ? 'Nothing could be moved' : `${subject} could not be emptied`}: ${left || 'no VM could be moved'}${because}`;
    case 'cancelled':
      return all(
        done.length + off === 0
          ? 'Cancelled: no VM moved; all run where they were'
          : `Cancelled: ${moved}; the others run where they were`,
      );
    case 'failed':
      return all(
        `${subject === null ? 'The balance' : `The evacuation of ${subject}`} failed after ${moved}${because}`,
      );
    default:
      return `${subject ?? 'The operation'} is ${result.state}: ${moved} so far`;
  }
}

interface Left {
  readonly failed: number;
  readonly cancelled: number;
  readonly blocked: number;
  readonly skipped: number;
}

function leftText({ failed, cancelled, blocked, skipped }: Left): string {
  const parts: string[] = [];
  if (blocked > 0) parts.push(`${blocked} could not be`);
  if (failed > 0) parts.push(`${failed} failed`);
  if (cancelled > 0) parts.push(`${cancelled} cancelled`);
  if (skipped > 0) parts.push(`${skipped} left there on purpose`);
  return parts.join(', ');
}

function nextSteps(result: OperationResult, { reason, command }: SummaryOptions): string[] {
  const host = result.host === null ? null : shellWord(result.host);
  if (result.state === 'done')
    return host === null ? [] : [`${command} uncordon ${host}    # when VMs may come back to it`];
  if (reason?.code === 'deadlineExceeded' && host !== null) {
    return [`${command} evacuate ${host} --deadline 1h    # goes on with what is left`];
  }
  const steps: string[] = [`${command} status ${result.id}    # each VM with its reason`];
  const reasons = [
    ...result.blocked.map((entry) => entry.reason),
    ...result.moves.map((move) => move.reason ?? ''),
  ].join('\n');
  if (host !== null && /max time|converge/i.test(reasons)) {
    steps.push(`${command} evacuate ${host} --aggression 1 --min-cpu 0    # throttle guests as hard as it takes`);
  } else if (host !== null) {
    steps.push(`${command} evacuate ${host} --wait    # again, for what is left`);
  }
  if (result.state !== 'cancelled' && /memory|CPU|destination|room/i.test(reasons)) {
    steps.push(`${command} status    # which hosts have room, which are cordoned`);
  }
  return steps;
}
