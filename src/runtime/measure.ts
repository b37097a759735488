/**
 * Looks at guests for those who ask what a migration would cost: the part of a worker that answers `Measurements`. Beside
 * its migrations, and without any of their locks: a look changes nothing.
 */
import type { Logger } from 'pino';
import type { Clock } from '../clock/clock.ts';
import { nextWindowMs, type TakenLook } from '../convergence/measuring.ts';
import { HostevacError, reasonOf } from '../domain/errors.ts';
import type { DirtyWindow } from '../domain/prediction.ts';
import type { Hypervisor, OutgoingMigration } from '../hypervisors/hypervisor.ts';
import { factsOf } from '../migration/briefing.ts';
import { type GuestSeen, MEASURING_TOPIC, type Measurement, type Measurements } from '../queue/measurements.ts';
import type { Wakeups } from '../store/cell.ts';

/** All looks together, fleet time: as long as before a migration. */
export const MEASURING_MS = 3_000;
/** In a fleet whose time is slow nobody waits longer than this (real ms). */
const MEASURING_REAL_MS = 10_000;
/** The net under the wake-ups (real ms). */
const LOOK_AGAIN_MS = 2_000;
/** Somebody else looks at this guest right now (a move before its start); by then it is over. */
const BUSY_RETRY_MS = 250;
const BUSY_TRIES = 8;
const ACTIVE: ReadonlySet<OutgoingMigration['status']> = new Set([
  'setup',
  'active',
  'preSwitchover',
  'switchover',
  'postCopy',
  'postCopyPaused',
]);

export interface MeasuringDeps {
  readonly clock: Clock;
  readonly hypervisorOf: (host: string) => Pick<Hypervisor, 'handoverMs' | 'inventory' | 'look' | 'measureDirtying'>;
  readonly measurements: Measurements;
  readonly wakeups: Wakeups;
  readonly log: Logger;
  /** This process, for those who wonder who looks. */
  readonly id: string;
}

export class MeasuringService {
  readonly #deps: MeasuringDeps;
  readonly #hosts: ReadonlySet<string>;
  readonly #stop = new AbortController();
  readonly #underWay = new Set<Promise<void>>();
  readonly #running: Promise<void>;

  constructor(deps: MeasuringDeps, hosts: readonly string[]) {
    this.#deps = deps;
    this.#hosts = new Set(hosts);
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await Promise.all(this.#underWay);
  }

  async #run(): Promise<void> {
    const { wakeups, log } = this.#deps;
    const { signal } = this.#stop;
    const listener = await wakeups.listen(MEASURING_TOPIC);
    while (!signal.aborted) {
      try {
        await this.#look();
      } catch (error) {
        log.warn({ err: error }, 'could not see who asks for a look at a guest');
      }
      await listener.next(LOOK_AGAIN_MS, signal);
    }
    await listener.close();
  }

  async #look(): Promise<void> {
    const { measurements, id } = this.#deps;
    for (const asked of await measurements.waiting()) {
      if (!this.#hosts.has(asked.host) || !(await measurements.take(asked.id, id))) continue;
      const answering = this.#answer(asked).finally(() => this.#underWay.delete(answering));
      this.#underWay.add(answering);
    }
  }

  async #answer(asked: Measurement): Promise<void> {
    const { measurements, log } = this.#deps;
    try {
      await measurements.reply(asked.id, await this.#replyTo(asked));
    } catch (error) {
      log.warn({ err: error, vm: asked.vm, host: asked.host }, 'who asked for a look at a guest was not answered');
    }
  }

  async #replyTo(asked: Measurement): Promise<NonNullable<Measurement['reply']>> {
    const { measurements, log } = this.#deps;
    try {
      const seen = await seeGuest(this.#deps, asked, {
        signal: this.#stop.signal,
        wanted: async () => (await measurements.read(asked.id)) !== null,
      });
      return { seen };
    } catch (error) {
      if (!(error instanceof HostevacError)) log.error({ err: error, vm: asked.vm }, 'a look at a guest failed');
      return { refused: reasonOf(error) };
    }
  }
}

/** Throws `unknownVm`, what the hypervisor throws, and `hostUnreachable` when this process is ending. */
async function seeGuest(
  deps: Pick<MeasuringDeps, 'clock' | 'hypervisorOf'>,
  { host, vm }: Pick<Measurement, 'host' | 'vm'>,
  until: { readonly signal: AbortSignal; readonly wanted: () => Promise<boolean> },
): Promise<GuestSeen> {
  const { clock } = deps;
  const hypervisor = deps.hypervisorOf(host);
  const found = (await hypervisor.inventory(host)).vms.find((one) => one.name === vm);
  if (found === undefined) throw new HostevacError('unknownVm', `${vm} is not on ${host} any more; ask again`);
  const sighting = await hypervisor.look(host, vm);
  const outgoing = sighting.present ? sighting.outgoing : null;
  const migratingTo =
    outgoing !== null && ACTIVE.has(outgoing.status) ? (outgoing.destination ?? 'another host') : null;
  const began = clock.now();
  const windows: DirtyWindow[] = [];
  if (found.state === 'running' && migratingTo === null) {
    const budgetMs = Math.min(MEASURING_MS, clock.fleetMs(MEASURING_REAL_MS));
    const taken: TakenLook[] = [];
    let busy = 0;
    for (;;) {
      const windowMs = nextWindowMs(taken, clock.now() - began, budgetMs);
      if (windowMs === null || !(await until.wanted())) break;
      const measured = await hypervisor.measureDirtying(host, vm, windowMs, until.signal);
      if (until.signal.aborted) {
        throw new HostevacError('hostUnreachable', `the worker that serves ${host} is ending; ask again`);
      }
      if (measured === null) {
        busy += 1;
        if (busy >= BUSY_TRIES) break;
        await clock.sleepReal(BUSY_RETRY_MS, until.signal);
        continue;
      }
      taken.push(measured);
      const { bytes, errorBytes } = measured;
      windows.push({ atMs: clock.now(), cpuMs: measured.windowMs, bytes, errorBytes, source: 'sampling' });
    }
  }
  return {
    uuid: found.uuid,
    state: found.state,
    guest: factsOf(found, hypervisor),
    migratingTo,
    windows,
    atMs: clock.now(),
    tookMs: clock.now() - began,
  };
}
