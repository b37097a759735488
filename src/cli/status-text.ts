/** `hostevac status` and the plan of a dry run as text: hosts, operations, one operation in full. Pure. */
import {
  ENDED_OPERATION_STATES,
  GONE_MOVE_STATES,
  type MoveRecord,
  type OperationRecord,
  type Proposal,
} from '../domain/operation.ts';
import type { Policy } from '../domain/policy.ts';
import type { OperationRequest } from '../domain/request.ts';
import { formatDuration, formatRate, formatShare, formatSize } from '../domain/units.ts';
import type { HostStatus, PlanPreview } from '../queue/producer.ts';
import { endsIn } from './progress/estimate.ts';
import { type VmRow, vmRows, wholeOf } from './progress/rows.ts';
import { headLine, MOVE_COLOUR, OPERATION_COLOUR, titleOf } from './progress/screen.ts';
import { type TableCell, tableLines } from './table.ts';
import { cut, type Paint, printable } from './text.ts';

/** An inventory older than this is shown as stale: a worker reports every few seconds. */
const STALE_INVENTORY_MS = 60_000;

export function hostLines(hosts: readonly HostStatus[], columns: number, paint: Paint): string[] {
  if (hosts.length === 0) return ['No host is known yet: start a worker with `hostevac up`.'];
  return tableLines(
    [
      { title: 'HOST', shrinkTo: 8 },
      { title: 'CORDONED' },
      { title: 'VMS', align: 'right' },
      { title: 'MEMORY', align: 'right', dropFirst: 1 },
      { title: 'EGRESS', align: 'right', dropFirst: 2 },
      { title: 'INGRESS', align: 'right', dropFirst: 3 },
      { title: 'WORKER' },
      { title: 'SEEN', align: 'right', dropFirst: 4 },
    ],
    hosts.map((host): TableCell[] => {
      const age = host.inventoryAgeMs;
      return [
        { text: printable(host.host) },
        host.cordoned ? { text: 'yes', colour: 'yellow' } : { text: 'no' },
        { text: age === null ? '?' : String(host.runningVms) },
        { text: age === null ? '?' : `${formatSize(host.memoryUsedBytes)} of ${formatSize(host.memoryBytes)}` },
        { text: useText(host.egress) },
        { text: useText(host.ingress) },
        workerCell(host),
        age === null
          ? { text: 'never' }
          : { text: `${formatDuration(age)} ago`, colour: age > STALE_INVENTORY_MS ? 'yellow' : undefined },
      ];
    }),
    columns,
    paint,
  );
}

function workerCell({ down, served }: HostStatus): TableCell {
  if (down) return { text: 'down', colour: 'red' };
  return served ? { text: 'alive', colour: 'green' } : { text: 'none', colour: 'red' };
}

function useText({ counted, capacity }: HostStatus['egress']): string {
  return counted === 0 ? `0 of ${formatRate(capacity)}` : `${formatRate(counted)} of ${formatRate(capacity)}`;
}

export function operationLines(
  records: readonly OperationRecord[],
  nowMs: number,
  columns: number,
  paint: Paint,
): string[] {
  if (records.length === 0) return ['No operation yet: `hostevac evacuate <host>` makes one.'];
  return tableLines(
    [
      { title: 'OPERATION' },
      { title: 'WHAT', shrinkTo: 12 },
      { title: 'STATE' },
      { title: 'VMS', align: 'right' },
      { title: 'AGE', align: 'right', dropFirst: 2 },
      { title: 'TOOK', align: 'right', dropFirst: 1 },
      { title: 'WHY', shrinkTo: 16, dropFirst: 3 },
    ],
    records.map((record): TableCell[] => {
      const done = record.tasks.filter((task) => GONE_MOVE_STATES.has(task.state)).length;
      const skipped = record.tasks.filter((task) => task.state === 'skipped').length;
      const since = record.startedAtMs ?? record.createdAtMs;
      const why = record.reason?.message ?? record.waitingFor[0] ?? '';
      return [
        { text: record.id },
        { text: titleOf(record) },
        { text: record.state, colour: OPERATION_COLOUR[record.state] },
        { text: `${done}/${record.tasks.length - skipped}` },
        { text: `${formatDuration(Math.max(0, nowMs - record.createdAtMs))} ago` },
        { text: record.endedAtMs === null ? '-' : formatDuration(record.endedAtMs - since) },
        { text: printable(why) },
      ];
    }),
    columns,
    paint,
  );
}

export interface OperationDetails {
  readonly nowMs: number;
  readonly record: OperationRecord;
  readonly moves: readonly MoveRecord[];
  readonly hosts: readonly HostStatus[];
  readonly columns: number;
  readonly paint: Paint;
}

export function detailLines({ nowMs, record, moves, hosts, columns, paint }: OperationDetails): string[] {
  const rows = vmRows(record, moves);
  const lines = [headLine(record, wholeOf({ nowMs, record, moves, hosts }, rows), columns, paint)];
  lines.push(cut(`id       ${record.id}`, columns), cut(`policy   ${policyText(record.request.policy)}`, columns));
  for (const [vm, own] of Object.entries(record.request.overrides)) {
    lines.push(cut(`         ${printable(vm)}: ${policyText(own)}`, columns));
  }
  const { deadlineMs } = record.request;
  if (deadlineMs !== null) {
    const left = record.createdAtMs + deadlineMs - nowMs;
    const when = ENDED_OPERATION_STATES.has(record.state)
      ? ''
      : left > 0
        ? `, ${formatDuration(left)} left`
        : ', passed';
    lines.push(`deadline ${formatDuration(deadlineMs)} after the request${when}`);
  }
  const others = nonMigratableText(record.request);
  if (others !== null) lines.push(cut(`others   ${others}`, columns));
  if (record.empty === false && record.state === 'done')
    lines.push(`empty    no: VMs were left there on purpose, see below`);
  if (record.reason !== null) lines.push(`reason   ${printable(record.reason.message)}`);
  for (const waiting of record.waitingFor) lines.push(`waits    ${printable(waiting)}`);
  if (record.proposal !== null) {
    const { hash, madeAtMs } = record.proposal;
    const made = `plan     ${hash}, made ${formatDuration(Math.max(0, nowMs - madeAtMs))} ago; nothing of it has been done`;
    return [...lines, made, '', ...proposedLines(record.proposal, columns, paint)];
  }
  if (rows.length > 0) lines.push('', ...rowTable(rows, columns, paint));
  return lines;
}

function rowTable(rows: readonly VmRow[], columns: number, paint: Paint): string[] {
  const running = rows.some((row) => row.progress !== null);
  return tableLines(
    [
      { title: 'VM', shrinkTo: 10 },
      { title: 'DESTINATION', shrinkTo: 8 },
      { title: 'STATE' },
      { title: 'TRIES', align: 'right', dropFirst: 4 },
      { title: 'CLEAN', align: 'right', dropFirst: 3 },
      { title: 'SHARE', align: 'right', dropFirst: 2 },
      ...(running ? [{ title: 'ENDS IN', dropFirst: 4 }] : []),
      { title: 'DOWNTIME', align: 'right', dropFirst: 1 },
      { title: 'WHY', shrinkTo: 16, dropFirst: 5 },
    ],
    rows.map((row): TableCell[] => [
      { text: printable(row.vm) },
      { text: row.destination === null ? '-' : printable(row.destination) },
      { text: row.state, colour: MOVE_COLOUR[row.state] },
      { text: String(row.attempts) },
      { text: row.progress === null && row.state !== 'done' ? '-' : `${Math.floor(row.fraction * 100)}%` },
      { text: formatShare(row.progress?.share ?? row.figures.minShare) },
      ...(running ? [{ text: row.progress === null ? '-' : endsIn(row.progress) }] : []),
      { text: row.state === 'done' ? formatDuration(row.figures.downtimeMs) : '-' },
      { text: printable(row.reason ?? row.progress?.decision ?? '') },
    ]),
    columns,
    paint,
  );
}

/** A policy in one line, as help and status show it. */
export function policyText(policy: Policy): string {
  const cap = policy.maxBandwidthBytesPerSec;
  return [
    `${policy.name}: aggression ${policy.aggression}`,
    `min CPU ${policy.minCpuShare}`,
    `max stall ${formatDuration(policy.maxStallMs)}`,
    `max time ${formatDuration(policy.maxTimeMs)} per VM, then ${policy.atDeadline}`,
    ...(cap === null ? [] : [`max bandwidth ${formatRate(cap)}`]),
    ...(policy.controller === 'leastHarm' ? [] : [`controller ${policy.controller}`]),
    ...(policy.throttling === 'optional' ? ['without throttling where it cannot be had'] : []),
  ].join(', ');
}

/** What is done with VMs that cannot be migrated; null: what is done without being asked. */
function nonMigratableText(request: OperationRequest): string | null {
  if (request.kind !== 'evacuateNode' || request.nonMigratable === 'block') return null;
  const within = `within ${formatDuration(request.shutdownTimeoutMs)}`;
  switch (request.nonMigratable) {
    case 'skip':
      return 'VMs that cannot be migrated are left where they are';
    case 'shutdown':
      return `VMs that cannot be migrated are shut down, ${within}`;
    case 'label':
      return `VMs that cannot be migrated are shut down where their label says so, ${within}`;
  }
}

/** What waits for approval. */
export function proposedLines(proposal: Proposal, columns: number, paint: Paint): string[] {
  const lines = planLines(proposal, columns, paint);
  return lines.length === 0 ? ['Nothing is to be moved; the host is cordoned.'] : lines;
}

export function planLines(
  plan: Pick<PlanPreview, 'moves' | 'shutdowns' | 'skipped' | 'blocked'>,
  columns: number,
  paint: Paint,
): string[] {
  const lines: string[] = [];
  if (plan.moves.length > 0) {
    lines.push(
      ...tableLines(
        [
          { title: '#', align: 'right' },
          { title: 'VM', shrinkTo: 10 },
          { title: 'FROM', shrinkTo: 6 },
          { title: 'TO', shrinkTo: 6 },
          { title: 'WHY', shrinkTo: 10, dropFirst: 1 },
        ],
        plan.moves.map((move, index) => [
          { text: String(index + 1) },
          { text: printable(move.vm) },
          { text: printable(move.source) },
          { text: printable(move.destination) },
          { text: printable(move.why) },
        ]),
        columns,
        paint,
      ),
    );
  }
  for (const { vm, host, why } of plan.shutdowns) {
    lines.push(`${paint('yellow', 'shut down')} ${printable(vm)} on ${printable(host)}, last: ${printable(why)}`);
  }
  for (const skipped of plan.skipped) {
    lines.push(`${paint('yellow', 'skipped')} ${printable(skipped.vm)}: ${printable(skipped.reason)}`);
  }
  for (const blocked of plan.blocked) {
    lines.push(`${paint('yellow', 'blocked')} ${printable(blocked.vm)}: ${printable(blocked.reason)}`);
  }
  return lines;
}
