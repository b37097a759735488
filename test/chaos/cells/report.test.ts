import { expect, test } from 'vitest';
import { reportText } from './report.ts';
import type { ChaosResult } from './results.ts';

const result = (over: Partial<ChaosResult>): ChaosResult => ({
  run: 'table',
  step: 'precopy',
  fault: 'workerKilled',
  moment: 0.5,
  state: 'done',
  lost: [],
  problems: [],
  hit: true,
  missed: 0,
  tookMs: 1,
  ...over,
});

const row = (text: string, fault: string): string =>
  text.split('\n').find((line) => line.startsWith(`| ${fault}`)) ?? '';

test('a cell says how often it was played, and what was wrong stands below', () => {
  const text = reportText([
    result({}),
    result({ run: '7', problems: ['hot-1 runs nowhere'] }),
    result({ step: 'admitting', fault: 'destinationKilled', hit: false }),
  ]);
  expect(text).toContain('3 runs, 2 of them with nothing wrong');
  expect(row(text, 'workerKilled')).toContain('2, **1 wrong**');
  expect(row(text, 'destinationKilled')).toContain('nothing there');
  expect(row(text, 'linkCut')).toMatch(/^\| linkCut \|( - \|)+$/);
  expect(text).toContain('precopy workerKilled (seed 7): hot-1 runs nowhere');
});

test('a guest that went with its QEMU is counted, and is nothing wrong', () => {
  const text = reportText([result({ fault: 'sourceKilled', state: 'partial', lost: ['hot-1'] })]);
  expect(text).toContain('1 runs, 1 of them with nothing wrong. In 1 the guest ended');
});
