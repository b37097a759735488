/** How the hot guest's move is brought into each state of the migration's table, and caught there. */
import { setTimeout as sleep } from 'node:timers/promises';
import { FINAL_STEPS, type MigrationStep, migrationSteps } from '../../../src/migration/states.ts';
import { until } from '../../support/condition.ts';
import { type ChaosPlace, HOT, SOURCE } from './chaos-place.ts';

export type Step = MigrationStep;

/** The states in which something can happen to a move. */
export const STEPS: readonly Step[] = migrationSteps.filter((step) => !FINAL_STEPS.has(step));

/** Unthrottled the hot guest never ends at this rate; throttled within some seconds. */
const LIMITS = ['--max-bandwidth', '14MiB/s', '--min-cpu', '0.05'];
const TO_POSTCOPY = ['--max-bandwidth', '14MiB/s', '--min-cpu', '0.9', '--max-time', '8s', '--at-deadline', 'postCopy'];
/** States that others than a moment's luck can meet, and for how long they last at least, about. */
const LASTS_MS: Partial<Record<Step, number>> = {
  admitting: 300,
  standby: 1_000,
  preparing: 300,
  precopy: 2_000,
  postcopy: 1_000,
};

const LOOK_EVERY_MS = 2;
const PATIENCE_MS = 60_000;

export function optionsFor(step: Step): readonly string[] {
  return step === 'postcopy' ? TO_POSTCOPY : LIMITS;
}

/** The move passed the state before it could be stopped there; to be tried again. */
export class Missed extends Error {}

export interface Caught {
  /** What the record said while nobody could change it. */
  readonly step: Step;
  readonly driver: number;
}

/**
 * Brings the move there and stops the worker that drives it, so that it is there for certain; whoever asked lets it go on.
 * `moment`, 0..1: when, in states that last for a while. Throws `Missed`.
 */
export async function catchIn(place: ChaosPlace, id: string, step: Step, moment: number): Promise<Caught> {
  if (step === 'precopy') {
    await until(() => place.isThrottledAtSource(HOT), PATIENCE_MS, `${HOT} is throttled`);
  }
  if (step === 'cleaning') await breakTheCopy(place);
  await seen(place, id, step);
  const lasts = LASTS_MS[step];
  if (lasts !== undefined) await sleep(moment * lasts);
  const driver = await place.driverOf(HOT);
  if (driver === null) throw new Missed(`${HOT} is driven by nobody any more`);
  process.kill(driver, 'SIGSTOP');
  const now = (await place.moves(id, HOT)).at(-1)?.step ?? 'nothing';
  if (step === 'standby') await place.letEgressGo();
  if (now === step) return { step, driver };
  process.kill(driver, 'SIGCONT');
  throw new Missed(`${HOT} was ${now}, not ${step}`);
}

/** What was sent is lost, so that what is left has to be tidied. */
async function breakTheCopy(place: ChaosPlace): Promise<void> {
  const source = place.only(HOT);
  await until(() => place.copies(HOT).length === 2, PATIENCE_MS, 'a waiting copy');
  await place.untilSent(source, 2 ** 22, PATIENCE_MS);
  const copy = place.copies(HOT).find(({ host }) => host !== SOURCE);
  if (copy !== undefined) process.kill(copy.pid, 'SIGKILL');
}

/** Until it is there and somebody drives it: records begin as `reconciling`, before anybody does. */
async function seen(place: ChaosPlace, id: string, step: Step): Promise<void> {
  const begin = performance.now();
  for (;;) {
    const move = (await place.moves(id, HOT)).at(-1);
    if (move?.step === step && (await place.driverOf(HOT)) !== null) return;
    if (move?.endedAtMs != null && move.state === 'done') throw new Missed(`${HOT} is done and was not seen ${step}`);
    if (performance.now() - begin > PATIENCE_MS) throw new Error(`${HOT} is ${move?.step}, not ${step}, for too long`);
    await sleep(LOOK_EVERY_MS);
  }
}
