/** What lies between a simulated process and the store or the fleet: time, and sometimes nothing. */
import type { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import type { Link } from '../support/process.ts';
import type { Random } from './random.ts';

/** Redis gives up waiting for an answer after about so long. */
const NO_ANSWER_MS = 500;
const LATE = { usual: 0.02, bad: 0.4 };
const LOST = { usual: 0, bad: 0.08 };
const LONGEST_MS = { usual: 40, bad: 1_000 };
/** Of those that are late when wires are bad: longer than a lease lasts, and a queue's lock. */
const VERY_LATE = 0.4;
const VERY_LATE_MS = 40_000;

export interface Wire {
  readonly to: 'store' | 'fleet';
  readonly clock: VirtualClock;
  readonly random: Random;
  /** Until then answers get lost and come late; virtual ms since the clock's start. */
  badUntilMs: number;
  /** Until then the other end is away; null: it answers. */
  readonly awayUntilMs: () => number;
  readonly error: (message: string) => HostevacError;
  /** Requests and answers that are on their way. */
  underWay: number;
}

/** A request that is on its way arrives whatever becomes of its sender; one whose answer is lost has been carried out. */
export function linkOver(wire: Wire): Link {
  const { clock, random } = wire;
  const wait = async (): Promise<void> => {
    const how = clock.monotonic() < wire.badUntilMs ? 'bad' : 'usual';
    if (!random.happens(LATE[how])) return;
    const veryLate = how === 'bad' && random.happens(VERY_LATE);
    await clock.sleep(veryLate ? random.between(LONGEST_MS.bad, VERY_LATE_MS) : random.skewed(1, LONGEST_MS[how]));
  };
  const carried: Link = async (effect) => {
    await wait();
    if (clock.monotonic() < wire.awayUntilMs()) {
      await clock.sleep(random.between(1, NO_ANSWER_MS));
      throw wire.error('does not answer');
    }
    const answer = await effect();
    await wait();
    if (random.happens(LOST[clock.monotonic() < wire.badUntilMs ? 'bad' : 'usual'])) {
      await clock.sleep(NO_ANSWER_MS);
      throw wire.error('gave no answer in time');
    }
    return answer;
  };
  return async (effect) => {
    wire.underWay += 1;
    try {
      return await carried(effect);
    } finally {
      wire.underWay -= 1;
    }
  };
}

export function storeError(message: string): HostevacError {
  return new HostevacError('redisAway', `the store ${message}`);
}

export function fleetError(message: string): HostevacError {
  return new HostevacError('hostUnreachable', `the host ${message}`);
}
