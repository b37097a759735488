import { expect, it } from 'vitest';
import { newTask } from '../../src/domain/operation.ts';
import { isBeingDriven, newMove } from '../../src/operations/standing.ts';

const move = newMove('op-1', newTask('web-1', 'a'), { id: 'op-1-1-1', destination: 'b', nowMs: 1_000 });
const account = { gotCpuMs: 0, frozenDemandCores: null, demandCores: 1, observedMs: 0, shareMs: 0 };
const booked = (atMs: number) => ({ ...move, state: 'precopy' as const, account: { ...account, atMs } });

it('a move is being driven while its guest was looked at lately, whichever clock is ahead', () => {
  expect(isBeingDriven(booked(10_000), 12_000, 5_000)).toBe(true);
  expect(isBeingDriven(booked(10_000), 15_000, 5_000)).toBe(false);
  expect(isBeingDriven(booked(10_000), 8_000, 5_000)).toBe(true);
  expect(isBeingDriven(booked(10_000), 4_000, 5_000)).toBe(false);
});

it('one that nobody has begun, or that has ended, is not, nor one that there is no record of', () => {
  expect(isBeingDriven(move, 1_000, 5_000)).toBe(false);
  expect(isBeingDriven({ ...booked(10_000), state: 'done' }, 10_000, 5_000)).toBe(false);
  expect(isBeingDriven(undefined, 10_000, 5_000)).toBe(false);
});
