/** The rows of a what-if as a slider goes through them, and the policy's four requirements beside one of them. Pure. */
import type { WhatIf } from '../../api/schemas/fleet.ts';
import { formatDuration, formatRate, formatShare } from '../../domain/format.ts';
import type { Policy } from '../../domain/policy.ts';

export type WhatIfRow = WhatIf['rows'][number];
export type Requirement = WhatIfRow['breaks'][number]['requirement'];

/** By ascending aggression, without the row that nobody throttles. */
export function steps<Row extends WhatIfRow>(rows: readonly Row[]): Row[] {
  return rows
    .filter(({ aggression }) => aggression !== null)
    .toSorted((a, b) => (a.aggression ?? 0) - (b.aggression ?? 0));
}

/** The most that any aggression comes to: the end of the bars' common scale, so that they can be compared. */
export function scaleOf(
  { rows }: { readonly rows: readonly WhatIfRow[] },
  key: 'totalMs' | 'downtimeMs' | 'harmCpuMs',
): number {
  return Math.max(...steps(rows).map(({ prediction }) => prediction[key].high), 1);
}

export interface RequirementLine {
  readonly requirement: Requirement;
  readonly limit: string;
  readonly predicted: string;
  /** Why it would not be kept; null: it would. */
  readonly broken: string | null;
}

export function requirementsOf(row: WhatIfRow, policy: Policy): RequirementLine[] {
  const { prediction } = row;
  const cap = policy.maxBandwidthBytesPerSec;
  const broken = (requirement: Requirement): string | null =>
    row.breaks.find((each) => each.requirement === requirement)?.why ?? null;
  const line = (requirement: Requirement, limit: string, predicted: string): RequirementLine => ({
    requirement,
    limit,
    predicted,
    broken: broken(requirement),
  });
  return [
    line('maxTime', formatDuration(policy.maxTimeMs), `${formatShare(row.endsInTime)} sure to end in it`),
    line('minCpu', formatShare(policy.minCpuShare), `${formatShare(prediction.minShare)} at least`),
    line('maxStall', formatDuration(policy.maxStallMs), formatDuration(prediction.downtimeMs.value)),
    line(
      'maxBandwidth',
      cap === null ? 'none' : formatRate(cap),
      cap === null ? 'whatever the budget gives' : 'it holds',
    ),
  ];
}
