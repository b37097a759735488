/**
 * A guest that runs free and surely ends in time: nothing would be decided otherwise a second later, so what was decided
 * holds for a few seconds, and a worker that sends two hundred such guests has time for the others. Pure.
 */
import { less, type Prediction } from '../domain/prediction.ts';
import { passEndsInMs, type Standing } from './forward.ts';

/** It is decided anew after this, however calm (ms of fleet time). */
const HOLDS_MS = 5_000;
/** Of the time that is left: with little of it, more often. */
export const CALM_PART = 0.02;
/** Before a pass ends it is looked at closely again (ms). */
const PASS_ENDS_MS = 3_000;
/** So much of what it is sent with, and of what it uses, may change without being news. */
const SAME_RATE = 0.05;
const SAME_DEMAND = 0.2;

/** How things stood when it was decided. */
export interface Calm {
  readonly atMs: number;
  readonly bandwidthBytesPerSec: number;
  readonly demandCores: number;
  readonly othersWait: boolean;
  readonly transferredBytes: number;
  readonly prediction: Prediction;
}

export interface Moment {
  readonly nowMs: number;
  readonly timeLeftMs: number;
  readonly from: Standing;
  readonly othersWait: boolean;
  readonly transferredBytes: number;
}

/** Not when a clock or the counters went back, either: they are not those that it was decided by. */
export function staysCalm(calm: Calm, moment: Moment): boolean {
  const { nowMs, timeLeftMs, from, othersWait, transferredBytes } = moment;
  return (
    nowMs >= calm.atMs &&
    transferredBytes >= calm.transferredBytes &&
    nowMs - calm.atMs < Math.min(HOLDS_MS, CALM_PART * timeLeftMs) &&
    othersWait === calm.othersWait &&
    isNear(from.bandwidthBytesPerSec, calm.bandwidthBytesPerSec, SAME_RATE) &&
    isNear(from.guest.demandCores, calm.demandCores, SAME_DEMAND) &&
    passEndsInMs(from) > PASS_ENDS_MS
  );
}

function isNear(is: number, was: number, part: number): boolean {
  return Math.abs(is - was) <= part * was;
}

/** What was predicted then, from now on. */
export function predictedSince(calm: Calm, nowMs: number, transferredBytes: number): Prediction {
  const { prediction } = calm;
  return {
    ...prediction,
    totalMs: less(prediction.totalMs, nowMs - calm.atMs),
    transferredBytes: less(prediction.transferredBytes, transferredBytes - calm.transferredBytes),
  };
}
