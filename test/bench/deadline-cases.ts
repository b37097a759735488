/**
 * Deadlines on real guests: which guest, which floor, how much time. All can be done (deadline-cases.test.ts asks the
 * oracle), from a third above the least time to far beyond it. Data.
 */
import type { ProfileName } from '../../src/lab/profiles.ts';

export interface DeadlineCase {
  readonly profile: ProfileName;
  /** Share of its demand below which the guest may not be held. */
  readonly floor: number;
  /** From `migrate` to completed. */
  readonly maxTimeMs: number;
}

const FLOORS: readonly (readonly [ProfileName, readonly (readonly [floor: number, seconds: readonly number[]])[]])[] = [
  ['idle', [[0.3, [1.5]]]],
  [
    'mild',
    [
      [0.1, [3.2]],
      [0.3, [3.4, 20]],
    ],
  ],
  [
    'hot',
    [
      [0.05, [4, 20]],
      [0.1, [5, 30]],
      [0.2, [14]],
    ],
  ],
  [
    'random',
    [
      [0.05, [4, 12]],
      [0.1, [5]],
    ],
  ],
  [
    'reference',
    [
      [0.05, [3.6, 20]],
      [0.1, [6]],
    ],
  ],
  ['fierce', [[0.05, [14, 40]]]],
  ['large', [[0.05, [13, 30]]]],
  [
    'pair',
    [
      [0.05, [4, 20]],
      [0.1, [6]],
    ],
  ],
];

export const DEADLINE_CASES: readonly DeadlineCase[] = FLOORS.flatMap(([profile, floors]) =>
  floors.flatMap(([floor, seconds]) =>
    seconds.map((second) => ({ profile, floor, maxTimeMs: Math.round(second * 1_000) })),
  ),
);

/** The name under which the oracle's plan for it is played. */
export function planName(one: DeadlineCase): string {
  return `oracle: ${caseName(one)}`;
}

/** Its name among contenders: `floor 5%, 3.6 s`. */
export function caseName({ floor, maxTimeMs }: DeadlineCase): string {
  return `floor ${Math.round(floor * 100)}%, ${maxTimeMs / 1_000} s`;
}
