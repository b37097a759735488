/** The answer of `hostevac what-if` as text: what is known of the guest, a line per aggression, what would give way. Pure. */
import type { WhatIfRow } from '../convergence/what-if.ts';
import { coresText, estimateText, formatDuration, formatRate, formatSize } from '../domain/format.ts';
import {
  DEADLINE_WORDS,
  grouped,
  keepsText,
  notMoved,
  REQUIREMENT_WORDS,
  type WhatIfGroup,
  whatIfFigures,
} from '../domain/what-if-words.ts';
import type { WhatIfAnswer } from '../queue/producer.ts';
import { policyText } from './status-text.ts';
import { type TableCell, tableLines } from './table.ts';
import { counted, type Paint, printable } from './text.ts';

export function whatIfLines(answer: WhatIfAnswer, columns: number, paint: Paint): string[] {
  const head = [guestLine(answer), ...(answer.model === null ? [] : [writesLine(answer), knownLine(answer)])];
  const away = notMoved(answer);
  if (away !== null) return [...head, away];
  const lines = [...head, sentLine(answer), `policy     ${policyText(answer.policy)}`];
  const groups = worthShowing(grouped(answer.rows));
  lines.push('', ...rowTable(groups, answer, columns, paint), '', verdict(groups));
  for (const { requirement, why } of answer.relaxed)
    lines.push(`gives way  ${REQUIREMENT_WORDS[requirement]}: ${printable(why)}`);
  if (answer.givesUp !== null) {
    lines.push(`gives up   ${printable(answer.givesUp)}; then ${DEADLINE_WORDS[answer.policy.atDeadline]}`);
  }
  if (answer.policy.controller !== 'leastHarm') {
    lines.push(`note       the figures are those of leastHarm; ${answer.policy.controller} predicts nothing`);
  }
  return lines;
}

/** A guest that no aggression throttles needs one line, not two that are alike. */
function worthShowing(groups: readonly WhatIfGroup<WhatIfRow>[]): readonly WhatIfGroup<WhatIfRow>[] {
  const throttled = groups.filter(({ from }) => from !== null);
  const [only] = throttled;
  return throttled.length === 1 && only !== undefined && only.row.share >= 1 ? throttled : groups;
}

/** `web-1 on node-a: running, 8GiB (3.1GiB to be sent), uses 1.4 cores`. */
function guestLine({ vm, host, state, guest }: WhatIfAnswer): string {
  const sent = `${formatSize(guest.memoryBytes)} (${formatSize(guest.touchedBytes)} to be sent)`;
  return `${printable(vm)} on ${printable(host)}: ${STATES[state]}, ${sent}, uses ${coresText(guest.demandCores)}`;
}

const STATES = {
  running: 'running',
  paused: 'paused',
  shutOff: 'shut off',
  incoming: 'waiting for a migration that brings it',
  postMigrate: 'gone, its memory is elsewhere',
  migrating: 'being migrated',
} as const;

function writesLine({ model }: WhatIfAnswer): string {
  if (model === null) return '';
  const rate = estimateText(model.rateBytesPerSec, formatRate);
  const set = estimateText(model.workingSetBytes, formatSize);
  const pattern =
    model.pattern === null ? '' : model.pattern === 'sweep' ? ', one page after the other' : ', pages at random';
  return `writes     ${rate ?? 'nobody knows how much'} over ${set ?? 'nobody knows how much memory'}${pattern}`;
}

function knownLine({ model, measured }: WhatIfAnswer): string {
  const { looks, tookMs, earlierMigrations } = measured;
  const lengths = looks.map(({ cpuMs }) => cpuMs);
  const [least, most] = [Math.min(...lengths), Math.max(...lengths)].map(formatDuration);
  const from =
    looks.length === 0
      ? 'nothing measured: its hypervisor cannot tell now, so the figures below are wide'
      : `${counted(looks.length, 'look')} of ${least === most ? least : `${least} to ${most}`}, ${formatDuration(tookMs)} in all`;
  const earlier = earlierMigrations === 0 ? '' : `, and ${counted(earlierMigrations, 'earlier migration')}`;
  const change = model?.change == null ? '' : `; ${printable(model.change.what)}`;
  return `known from ${from}${earlier}${change}`;
}

function sentLine({ destination, destinationWhy, bandwidthBytesPerSec, path }: WhatIfAnswer): string {
  const where =
    destination === null
      ? `no host takes it now (${printable(destinationWhy)}), the widest way out is assumed`
      : `to ${printable(destination)} (${printable(destinationWhy)})`;
  const limit =
    bandwidthBytesPerSec < path.bytesPerSec
      ? "the policy's cap"
      : path.waits
        ? `${printable(path.narrowest)}, of which ${formatRate(path.freeBytesPerSec)} is free now: it would wait for its turn`
        : path.freeBytesPerSec < path.capacityBytesPerSec
          ? `what is free now of ${formatRate(path.capacityBytesPerSec)}, ${printable(path.narrowest)}`
          : printable(path.narrowest);
  return `sent with  ${formatRate(bandwidthBytesPerSec)} (${limit}) ${where}`;
}

function rowTable(
  groups: readonly WhatIfGroup<WhatIfRow>[],
  answer: WhatIfAnswer,
  columns: number,
  paint: Paint,
): string[] {
  return tableLines(
    [
      { title: 'AGGRESSION' },
      { title: 'TOTAL' },
      { title: 'DOWNTIME', dropFirst: 1 },
      { title: 'MEAN CPU', align: 'right', dropFirst: 2 },
      { title: 'LEAST', align: 'right' },
      { title: 'HARM (CPU TIME)' },
      { title: 'KEEPS', shrinkTo: 12 },
    ],
    groups.map((group): TableCell[] => {
      const { breaks } = group.row;
      const figures = whatIfFigures(group.row, answer.policy);
      const colour = breaks.length > 0 ? 'yellow' : group.chosen ? 'green' : undefined;
      return [
        { text: label(group), colour },
        { text: figures.total },
        { text: figures.downtime },
        { text: figures.meanShare },
        { text: figures.minShare },
        { text: figures.harm },
        { text: keepsText(group.row), colour: breaks.length > 0 ? 'yellow' : undefined },
      ];
    }),
    columns,
    paint,
  );
}

/** `no throttle`, `0..0.4`, `0.5 *`. */
function label({ from, to, chosen }: WhatIfGroup<WhatIfRow>): string {
  if (from === null) return 'no throttle';
  return `${from === to ? from : `${from}..${to}`}${chosen ? ' *' : ''}`;
}

/** The line that the policy would take, and why. */
function verdict(groups: readonly WhatIfGroup<WhatIfRow>[]): string {
  const throttled = groups.filter(({ from }) => from !== null);
  const taken = throttled.find(({ chosen }) => chosen);
  const why = taken === undefined ? '' : `: ${printable(taken.row.why)}`;
  if (throttled.length === 1) return `All aggressions are alike${why}`;
  const later = taken?.row.begins === 'nextPass' && taken.row.share < 1 ? ', throttled from the second pass on' : '';
  return `* is what the policy would do${later}${why}`;
}
