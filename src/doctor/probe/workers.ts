/** Watches the heartbeats of the workers until each has written again: the moment tells how their clocks differ from ours. */
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HEARTBEAT_EXPIRES_MS, type Presence, type WorkerPresence } from '../../store/presence.ts';
import type { WorkerFacts } from '../judge/workers.ts';

/** A worker writes four times in the time after which it would count as gone. */
const WATCH_MS = HEARTBEAT_EXPIRES_MS / 2;
const LOOK_MS = 50;

export async function watchWorkers(presence: Pick<Presence, 'alive'>, signal: AbortSignal): Promise<WorkerFacts[]> {
  const first = await presence.alive();
  const clocks = new Map<string, NonNullable<WorkerFacts['clock']>>();
  const telling = first.filter(({ about }) => about !== undefined);
  const since = performance.now();
  let lookedMs = since;
  while (clocks.size < telling.length && performance.now() - since < WATCH_MS && !signal.aborted) {
    await abortableSleep(LOOK_MS, signal);
    const now = await presence.alive();
    const sinceLookMs = performance.now() - lookedMs;
    lookedMs = performance.now();
    for (const worker of telling) {
      const beat = now.find(({ id }) => id === worker.id)?.about?.beatAtMs;
      if (beat === undefined || beat === worker.about?.beatAtMs || clocks.has(worker.id)) continue;
      // It was written between this look and the one before.
      clocks.set(worker.id, { aheadMs: Date.now() - sinceLookMs / 2 - beat, uncertainMs: sinceLookMs / 2 + 1 });
    }
  }
  return first.map((worker) => factsOf(worker, clocks.get(worker.id) ?? null));
}

function factsOf(
  { pid, hosts, operations, fleetHash, about }: WorkerPresence,
  clock: WorkerFacts['clock'],
): WorkerFacts {
  const { version = null, hostname = null } = about ?? {};
  return { pid, hosts, operations, fleetHash, version, hostname, clock };
}
