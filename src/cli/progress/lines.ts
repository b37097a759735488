/**
 * Progress where there is no terminal: one greppable line per event and, from time to time, per running migration.
 * `<time> <kind> op=<id> vm=<vm> key=value... msg="..."`. Pure.
 */
import type { MigrationProgress, OperationEvent, Proposal } from '../../domain/operation.ts';
import { formatDuration, formatRate, formatShare, formatSize } from '../../domain/units.ts';
import { type Paint, printable } from '../text.ts';
import type { VmRow } from './rows.ts';

type Field = readonly [key: string, value: string | number | null | undefined];

/** `key=value`, quoted when a blank, a quote or `=` would end it early; fields without a value are left out. */
export function fieldsText(fields: readonly Field[]): string {
  return fields
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([key, value]) => `${key}=${quoted(printable(String(value)))}`)
    .join(' ');
}

function quoted(value: string): string {
  return value === '' || /[\s"=\\]/.test(value) ? JSON.stringify(value) : value;
}

export function eventLine(event: OperationEvent, time: string): string {
  const fields = fieldsText([
    ['op', event.operationId],
    ['vm', event.vm],
    ['move', event.moveId],
  ]);
  return `${time} ${event.kind} ${fields} msg=${JSON.stringify(printable(event.message))}`;
}

/** A running migration now. */
export function progressLine(operationId: string, row: VmRow, time: string): string {
  const { progress } = row;
  const fields = fieldsText([
    ['op', operationId],
    ['vm', row.vm],
    ['destination', row.destination],
    ['state', row.state],
    ...(progress === null
      ? []
      : ([
          ['pass', progress.pass],
          ['done', `${Math.floor(row.fraction * 100)}%`],
          ['remaining', formatSize(progress.remainingBytes)],
          ['rate', formatRate(progress.rateBytesPerSec)],
          ['share', formatShare(progress.share)],
          ['eta', progress.etaMs === null ? 'unknown' : formatDuration(progress.etaMs)],
          ['eta_low', boundOf(progress, 'low')],
          ['eta_high', boundOf(progress, 'high')],
        ] satisfies Field[])),
  ]);
  return `${time} move.progress ${fields} msg=${JSON.stringify(printable(progress?.decision ?? row.reason ?? ''))}`;
}

/** Nine of ten such migrations would end between the two; left out where nothing was predicted. */
function boundOf({ prediction }: MigrationProgress, side: 'low' | 'high'): string | null {
  return prediction === null ? null : formatDuration(prediction.totalMs[side]);
}

/** What waits for approval, a line for each VM. */
export function proposalLines(operationId: string, proposal: Proposal, time: string): string[] {
  const line = (kind: string, vm: string, why: string, places: readonly Field[] = []): string => {
    const fields = fieldsText([['op', operationId], ['plan', proposal.hash], ['vm', vm], ...places]);
    return `${time} plan.${kind} ${fields} msg=${JSON.stringify(printable(why))}`;
  };
  return [
    ...proposal.moves.map(({ vm, source, destination, why }) =>
      line('move', vm, why, [
        ['source', source],
        ['destination', destination],
      ]),
    ),
    ...proposal.shutdowns.map(({ vm, host, why }) => line('shutdown', vm, why, [['host', host]])),
    ...proposal.skipped.map(({ vm, reason }) => line('skipped', vm, reason)),
    ...proposal.blocked.map(({ vm, reason }) => line('blocked', vm, reason)),
  ];
}

/** Something that the watcher itself has to say: no worker, Redis away. */
export function noticeLine(operationId: string, message: string, time: string): string {
  return `${time} watch.notice op=${operationId} msg=${JSON.stringify(printable(message))}`;
}

/** An event as it stands above the live display: shorter, for eyes. */
export function eventText(event: OperationEvent, clock: string, paint: Paint): string {
  // Most messages begin with the VM's name themselves.
  const subject = event.vm === null || event.message.startsWith(event.vm) ? '' : `${printable(event.vm)}: `;
  const colour = /\.(failed|blocked|halted)$/.test(event.kind)
    ? 'red'
    : event.kind.endsWith('.done')
      ? 'green'
      : undefined;
  const kind = colour === undefined ? event.kind : paint(colour, event.kind);
  return `${paint('dim', clock)} ${kind} ${subject}${printable(event.message)}`;
}
