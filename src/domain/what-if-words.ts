/**
 * A line of a what-if as words, the same for the command line and the dashboard: what a person reads in one must be what
 * the other says. Pure, without schemas.
 */
import { formatDuration, formatRate, formatShare, intervalText, printable } from './format.ts';
import type { Policy } from './policy.ts';
import type { Prediction } from './prediction.ts';

/** No end at all, or none that is worth a figure. */
const UNLIKELY = 0.05;
/** Of the time that a prediction looks ahead: what still runs there has no end in sight, give or take its error. */
const ENDLESS_PART = 0.9;

export const REQUIREMENT_WORDS = {
  minCpu: 'min CPU',
  maxBandwidth: 'max bandwidth',
  maxTime: 'max time',
  maxStall: 'max stall',
} as const;

export const DEADLINE_WORDS = {
  abort: 'it is aborted and stays where it is',
  postCopy: 'it goes on at its destination and fetches what is missing',
  forceComplete: 'it is held until all is sent',
} as const satisfies Record<Policy['atDeadline'], string>;

/** How far a prediction looks: where a total stands at it, no end is in sight. Past the max time, to show how far past. */
export function horizonMs(maxTimeLeftMs: number): number {
  const left = Number.isFinite(maxTimeLeftMs) ? maxTimeLeftMs : 0;
  return Math.min(24 * 3_600_000, Math.max(60_000, 2 * left));
}

export interface WhatIfFigures {
  readonly total: string;
  readonly downtime: string;
  readonly meanShare: string;
  readonly minShare: string;
  readonly harm: string;
}

/** What never ends has no downtime, and its harm goes on. */
export function whatIfFigures(
  row: { readonly prediction: Prediction; readonly endsInTime: number },
  policy: Pick<Policy, 'maxTimeMs'>,
): WhatIfFigures {
  const { prediction, endsInTime } = row;
  const endless = ENDLESS_PART * horizonMs(policy.maxTimeMs);
  const ends = prediction.totalMs.value < endless;
  return {
    total: intervalText(prediction.totalMs, (ms) => (ms >= endless ? 'no end' : formatDuration(ms))),
    downtime: ends ? intervalText(prediction.downtimeMs, formatDuration) : '-',
    meanShare: formatShare(prediction.meanShare),
    minShare: formatShare(prediction.minShare),
    harm: ends || endsInTime > UNLIKELY ? intervalText(prediction.harmCpuMs, formatDuration) : '-',
  };
}

/** Neighbouring rows that come to the same plan, as one. The row without a throttle stays by itself. */
export interface WhatIfGroup<Row> {
  /** null: without a throttle. */
  readonly from: number | null;
  readonly to: number | null;
  readonly chosen: boolean;
  readonly row: Row;
}

interface Grouping {
  readonly aggression: number | null;
  readonly chosen: boolean;
  readonly share: number;
  readonly begins: string;
}

export function grouped<Row extends Grouping>(rows: readonly Row[]): WhatIfGroup<Row>[] {
  const groups: WhatIfGroup<Row>[] = [];
  for (const row of rows) {
    const last = groups.at(-1);
    const same =
      last !== undefined && last.from !== null && last.row.share === row.share && last.row.begins === row.begins;
    if (same) groups[groups.length - 1] = { ...last, to: row.aggression, chosen: last.chosen || row.chosen };
    else groups.push({ from: row.aggression, to: row.aggression, chosen: row.chosen, row });
  }
  return groups;
}

/** Which requirements of its policy a row keeps: `all`, or those that it would break and why. */
export function keepsText({
  breaks,
}: {
  readonly breaks: readonly { readonly requirement: keyof typeof REQUIREMENT_WORDS; readonly why: string }[];
}): string {
  if (breaks.length === 0) return 'all';
  return `not ${breaks.map(({ requirement, why }) => `${REQUIREMENT_WORDS[requirement]} (${printable(why)})`).join(', ')}`;
}

/** What is said in place of figures of a VM that does not run, or is on its way; null: it runs. */
export function notMoved({
  state,
  migratingTo,
  guest,
  bandwidthBytesPerSec,
}: {
  readonly state: string;
  readonly migratingTo: string | null;
  readonly guest: { readonly touchedBytes: number };
  readonly bandwidthBytesPerSec: number;
}): string | null {
  switch (state) {
    case 'running':
      return null;
    case 'paused': {
      const ms = bandwidthBytesPerSec > 0 ? (guest.touchedBytes / bandwidthBytesPerSec) * 1_000 : Number.NaN;
      const rate = formatRate(bandwidthBytesPerSec);
      return `It writes nothing while it is paused: at ${rate} it is sent in about ${formatDuration(ms)}, and nothing is throttled.`;
    }
    case 'shutOff':
      return 'It has no memory to send, so there is nothing to predict.';
    case 'migrating':
      return `It is being migrated to ${printable(migratingTo ?? 'another host')} now: ask again when that has ended.`;
    default:
      return 'It does not run here, so there is nothing to predict.';
  }
}
