/** One cell of the table: a move brought into a state, struck there, and everything looked at afterwards. */
import { ChaosPlace, SOURCE } from './chaos-place.ts';
import type { Fault } from './faults.ts';
import { type Caught, catchIn, Missed, optionsFor, type Step } from './steps.ts';
import { judge, type Verdict } from './verdict.ts';

/** Some states last for milliseconds. */
const TRIES = 5;

export interface Cell {
  readonly step: Step;
  readonly fault: Fault;
  /** 0..1: when, within the state. */
  readonly moment: number;
}

export interface CellResult extends Verdict {
  readonly step: Step;
  readonly fault: string;
  readonly moment: number;
  readonly tookMs: number;
  /** False: there was nothing to strike in that state. */
  readonly hit: boolean;
  /** How often the state had passed before the move could be stopped in it. */
  readonly missed: number;
  /** What all processes said; only where something is wrong. */
  readonly said: string | null;
}

/** Throws when the state could not be met. */
export async function play(cell: Cell): Promise<CellResult> {
  for (let missed = 0; ; missed += 1) {
    try {
      return { ...(await once(cell)), missed };
    } catch (error) {
      if (!(error instanceof Missed) || missed + 1 === TRIES) throw error;
    }
  }
}

async function once({ step, fault, moment }: Cell): Promise<Omit<CellResult, 'missed'>> {
  const begin = performance.now();
  const place = new ChaosPlace();
  try {
    await place.begin();
    const start = () => Promise.all([place.startWorker(), place.startWorker()]);
    // Its first state is over before `evacuate` has ended: there, workers come after the request.
    const [id, caught] =
      step === 'reconciling'
        ? await requestThenWorkers(place, start, moment)
        : await workersThenRequest(place, start, step, moment);
    const hit = await fault.strike({ place, id, driver: caught.driver });
    const verdict = await judge(place, id, { fault, step });
    const said = verdict.problems.length === 0 ? null : `${place.said()}\n${await told(place, id)}`;
    return { step, fault: fault.name, moment, hit, ...verdict, tookMs: performance.now() - begin, said };
  } finally {
    await place.close();
  }
}

async function workersThenRequest(
  place: ChaosPlace,
  start: () => Promise<unknown>,
  step: Step,
  moment: number,
): Promise<[id: string, caught: Caught]> {
  await start();
  if (step === 'standby') await place.holdEgress();
  const id = await place.evacuate(SOURCE, ...optionsFor(step));
  return [id, await catchIn(place, id, step, moment)];
}

async function requestThenWorkers(
  place: ChaosPlace,
  start: () => Promise<unknown>,
  moment: number,
): Promise<[id: string, caught: Caught]> {
  const id = await place.evacuate(SOURCE, ...optionsFor('reconciling'));
  const [caught, started] = await Promise.allSettled([catchIn(place, id, 'reconciling', moment), start()]);
  if (caught.status === 'rejected') throw caught.reason;
  // One of them may have been stopped before it had said that it serves: it is struck anyway.
  if (started.status === 'rejected' && place.workers().length === 0) throw started.reason;
  return [id, caught.value];
}

async function told(place: ChaosPlace, id: string): Promise<string> {
  const events = await place.events(id);
  return events
    .map(({ atMs, kind, vm, message }) => `${new Date(atMs).toISOString()} ${kind} ${vm ?? ''} ${message}`)
    .join('\n');
}
