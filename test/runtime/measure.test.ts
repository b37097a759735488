/** Asking for a look at a guest, and the worker that answers: on cells in memory, in virtual time, with a guest of our own. */
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import type { DirtyingMeasured, Hypervisor, OutgoingStatus, VmOnHost } from '../../src/hypervisors/hypervisor.ts';
import { type Measurement, Measurements } from '../../src/queue/measurements.ts';
import { MeasuringService } from '../../src/runtime/measure.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';

const MiB = 2 ** 20;
const vm: VmOnHost = {
  name: 'web-1',
  uuid: 'u-1',
  state: 'running',
  memoryBytes: 1_024 * MiB,
  touchedBytes: 700 * MiB,
  cpus: 1,
  demandCores: 0.5,
  notMigratable: null,
};

/** A guest that writes 100 MiB/s; `busy` looks come back with nothing, as when somebody else looks. */
class OneGuest implements Pick<Hypervisor, 'handoverMs' | 'inventory' | 'look' | 'measureDirtying'> {
  readonly handoverMs = 100;
  vms: VmOnHost[] = [vm];
  outgoing: OutgoingStatus | null = null;
  busy = 0;
  looks = 0;
  readonly #clock: VirtualClock;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  async inventory(host: string) {
    return { host, takenAtMs: this.#clock.now(), vms: this.vms };
  }

  async look() {
    const { uuid, state } = vm;
    const outgoing = this.outgoing && { status: this.outgoing, destination: 'node-b', migrationId: 'm' };
    return { present: true, uuid, state, arriving: false, outgoing } as const;
  }

  async measureDirtying(
    _: string,
    __: string,
    windowMs: number,
    signal: AbortSignal,
  ): Promise<DirtyingMeasured | null> {
    if (this.busy > 0) {
      this.busy -= 1;
      return null;
    }
    this.looks += 1;
    await this.#clock.sleep(windowMs, signal);
    return signal.aborted ? null : { windowMs, bytes: (100 * MiB * windowMs) / 1_000, errorBytes: MiB };
  }
}

describe('a look at a guest for somebody who asks', () => {
  let clock: VirtualClock;
  let measurements: Measurements;
  let cells: MemoryCellStore;
  let wakeups: MemoryWakeups;
  let guest: OneGuest;
  const services: MeasuringService[] = [];

  beforeEach(() => {
    clock = new VirtualClock();
    wakeups = new MemoryWakeups(clock);
    cells = new MemoryCellStore(clock, wakeups);
    measurements = new Measurements(cells);
    guest = new OneGuest(clock);
  });
  afterEach(async () => {
    await Promise.all(services.splice(0).map((service) => ended(service.close())));
    expect(clock.sleeping).toBe(0);
  });

  function serve(id: string, hosts: readonly string[]): MeasuringService {
    const log = pino({ level: 'silent' });
    const service = new MeasuringService({ clock, hypervisorOf: () => guest, measurements, wakeups, log, id }, hosts);
    services.push(service);
    return service;
  }

  async function ended<T>(work: Promise<T>): Promise<T> {
    let over = false;
    const done = work.finally(() => {
      over = true;
    });
    for (let ms = 0; !over && ms < 120_000; ms += 10) {
      await clock.settle();
      if (!over) await clock.advance(10);
    }
    return done;
  }

  async function untilItLooks(): Promise<void> {
    for (let ms = 0; guest.looks === 0 && ms < 5_000; ms += 10) {
      await clock.settle();
      await clock.advance(10);
    }
    expect(guest.looks).toBeGreaterThan(0);
  }

  async function replied(id: string): Promise<Measurement> {
    for (let ms = 0; ms < 30_000; ms += 10) {
      await clock.settle();
      const known = await measurements.read(id);
      if (known?.reply != null) return known;
      await clock.advance(10);
    }
    throw new Error('no reply within 30 s');
  }

  it('a few looks within three seconds, with the size of the guest', async () => {
    serve('worker-1', ['node-a']);
    const { reply, takenBy } = await replied(await measurements.ask('node-a', 'web-1'));
    if (reply === null || !('seen' in reply)) throw new Error('refused');
    const { seen } = reply;
    expect(takenBy).toBe('worker-1');
    expect(seen).toMatchObject({ uuid: 'u-1', state: 'running', migratingTo: null });
    expect(seen.guest).toEqual({
      memoryBytes: 1_024 * MiB,
      touchedBytes: 700 * MiB,
      demandCores: 0.5,
      handoverMs: 100,
    });
    expect(seen.windows.length).toBeGreaterThan(1);
    for (const { bytes, cpuMs, source } of seen.windows) {
      expect(source).toBe('sampling');
      expect(bytes / cpuMs).toBeCloseTo((100 * MiB) / 1_000);
    }
    expect(seen.tookMs).toBeLessThanOrEqual(3_000);
  });

  it('of two workers that serve the host one looks; one that does not serve it never does', async () => {
    serve('elsewhere', ['node-b']);
    serve('worker-1', ['node-a']);
    serve('worker-2', ['node-a']);
    const { reply, takenBy } = await replied(await measurements.ask('node-a', 'web-1'));
    expect(takenBy).not.toBe('elsewhere');
    expect(guest.looks).toBe(reply !== null && 'seen' in reply ? reply.seen.windows.length : -1);
  });

  it('while somebody else looks at the guest it waits a moment', async () => {
    guest.busy = 3;
    serve('worker-1', ['node-a']);
    const { reply } = await replied(await measurements.ask('node-a', 'web-1'));
    expect(reply).toMatchObject({ seen: { windows: expect.arrayContaining([expect.anything()]) } });
  });

  it('where the hypervisor cannot tell, it says so with what it knows', async () => {
    guest.busy = Number.POSITIVE_INFINITY;
    serve('worker-1', ['node-a']);
    const { reply } = await replied(await measurements.ask('node-a', 'web-1'));
    expect(reply).toMatchObject({ seen: { windows: [], guest: { touchedBytes: 700 * MiB } } });
  });

  it('a guest on its way is not looked at, nor one that stands still', async () => {
    serve('worker-1', ['node-a']);
    guest.outgoing = 'active';
    const moving = await replied(await measurements.ask('node-a', 'web-1'));
    expect(moving.reply).toMatchObject({ seen: { migratingTo: 'node-b', windows: [] } });
    guest.outgoing = 'completed';
    guest.vms = [{ ...vm, state: 'paused' }];
    const paused = await replied(await measurements.ask('node-a', 'web-1'));
    expect(paused.reply).toMatchObject({ seen: { state: 'paused', migratingTo: null, windows: [] } });
    expect(guest.looks).toBe(0);
  });

  it('what is wrong comes back as a reason', async () => {
    serve('worker-1', ['node-a']);
    guest.vms = [];
    const gone = await replied(await measurements.ask('node-a', 'web-1'));
    expect(gone.reply).toEqual({
      refused: { code: 'unknownVm', message: 'web-1 is not on node-a any more; ask again' },
    });
    guest.inventory = async () => {
      throw new HostevacError('hostUnreachable', 'no answer');
    };
    const away = await replied(await measurements.ask('node-a', 'web-1'));
    expect(away.reply).toEqual({ refused: { code: 'hostUnreachable', message: 'no answer' } });
  });

  it('a worker that ends in the middle says so at once', async () => {
    const service = serve('worker-1', ['node-a']);
    const id = await measurements.ask('node-a', 'web-1');
    await untilItLooks();
    await ended(service.close());
    expect((await measurements.read(id))?.reply).toMatchObject({ refused: { code: 'hostUnreachable' } });
  });

  it('a request that is withdrawn ends the looks, and nothing of it is left', async () => {
    serve('worker-1', ['node-a']);
    const id = await measurements.ask('node-a', 'web-1');
    await untilItLooks();
    await measurements.withdraw(id);
    const { looks } = guest;
    await clock.advance(5_000);
    await clock.settle();
    expect(guest.looks).toBe(looks);
    expect(await measurements.read(id)).toBeNull();
    expect(await measurements.waiting()).toEqual([]);
  });

  it('who asked and died leaves nothing for long: the request expires, and the next one tidies the list', async () => {
    const dead = await measurements.ask('node-a', 'web-1');
    await clock.advance(40_000);
    const second = await measurements.ask('node-a', 'web-1');
    await clock.advance(21_000);
    expect(await measurements.read(dead)).toBeNull();
    const third = await measurements.ask('node-a', 'web-1');
    expect(JSON.parse((await cells.read('measuring')).text ?? '')).toEqual([second, third]);
  });
});
