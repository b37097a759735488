/** One cell as a test; what was seen is kept also where it fails. */
import { expect, test } from 'vitest';
import { type Cell, type CellResult, play } from './cell.ts';
import { RESULTS } from './report.ts';
import { keepResult } from './results.ts';

/** A minute for each try to meet the state, and what an operation may take to end after the longest fault. */
const LIMIT_MS = 20 * 60_000;

export function cellTest(name: string, { run, ...cell }: Cell & { readonly run: string }): void {
  test.concurrent(
    name,
    async () => {
      const { said, ...result } = await play(cell).catch((error: unknown) => notPlayed(cell, error));
      keepResult(RESULTS, { ...result, run, lost: [...result.lost], problems: [...result.problems] });
      expect(result.problems, said ?? '').toEqual([]);
    },
    LIMIT_MS,
  );
}

function notPlayed({ step, fault, moment }: Cell, error: unknown): CellResult {
  const problems = [`not played to its end: ${error instanceof Error ? error.message : String(error)}`];
  const said = error instanceof Error ? (error.stack ?? null) : null;
  return {
    step,
    fault: fault.name,
    moment,
    hit: false,
    state: 'unknown',
    lost: [],
    problems,
    missed: 0,
    tookMs: 0,
    said,
  };
}
