/**
 * Random lives of migrations against the budget, with workers that die at any step and processes that act at once. The
 * model knows what each hypervisor may be using; the law is that this never exceeds a capacity.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FLOOR_BYTES_PER_SEC } from '../../src/bandwidth/allocate.ts';
import type { Demand } from '../../src/bandwidth/budget.ts';
import { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { demand, fleet, MIB } from './entries.ts';

const HOSTS = ['a', 'b', 'c'];
const RATE = 100;
const LINK = 150;

/** One migration as its workers and its hypervisor know it. */
class Life {
  readonly demand: Demand;
  /** The hypervisor's limit; 0: it does not send. */
  limit = 0;
  /** What the worker has read and may set at any moment. */
  read: number | null = null;
  /** The worker has set `limit` and not said so. */
  unsaid = false;
  ended = false;

  constructor(of: Demand) {
    this.demand = of;
  }

  /** The most that may flow now or at the worker's next step. */
  get use(): number {
    return this.ended ? 0 : Math.max(this.limit, this.read ?? 0);
  }

  /** The worker's next step; one whose rate is as it was says nothing. */
  async step(budget: CellBudget): Promise<void> {
    if (this.ended) return;
    if (this.unsaid) {
      this.unsaid = false;
      await budget.inForce(this.demand.migrationId, this.limit);
    } else if (this.read !== null) {
      this.limit = this.read;
      this.read = null;
      this.unsaid = true;
    } else {
      const { bytesPerSec } = await budget.request(this.demand);
      if (bytesPerSec > 0 && bytesPerSec !== this.limit) this.read = bytesPerSec;
    }
  }

  /** The worker dies. Its successor sees the hypervisor's limit, does not trust what was said of it, and says it. */
  die(): void {
    this.read = null;
    this.unsaid = this.limit > 0;
  }

  async end(budget: CellBudget): Promise<void> {
    if (this.limit === 0) return;
    this.ended = true;
    await budget.release(this.demand.migrationId);
  }
}

const anyLives = fc.array(
  fc.record({
    source: fc.nat({ max: 2 }),
    hop: fc.integer({ min: 1, max: 2 }),
    tier: fc.constantFrom('evacuation' as const, 'rebalance' as const),
    order: fc.nat({ max: 6 }),
    useful: fc.integer({ min: 5, max: 90 }),
    max: fc.integer({ min: 20, max: 120 }),
    headStart: fc.boolean(),
    endsSoon: fc.boolean(),
  }),
  { minLength: 1, maxLength: 8 },
);

const anyCommands = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant('steps' as const),
        of: fc.array(fc.nat(), { minLength: 1, maxLength: 4 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('die' as const), of: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('end' as const), of: fc.nat() }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('capacity' as const),
        of: fc.nat({ max: 5 }),
        to: fc.option(fc.integer({ min: 0, max: 120 })),
      }),
    },
  ),
  { maxLength: 80 },
);

class Model {
  readonly lives: Life[];
  readonly budgets: readonly [CellBudget, CellBudget];
  /** By `>host`, `<host`, `link`. */
  readonly capacity = new Map<string, number>();

  constructor(
    drawn: readonly (Pick<Demand, 'tier' | 'order' | 'headStart' | 'endsSoon'> & {
      source: number;
      hop: number;
      useful: number;
      max: number;
    })[],
  ) {
    const clock = new VirtualClock();
    const cells = new MemoryCellStore(clock, new MemoryWakeups(clock));
    const shared = fleet(HOSTS, RATE, LINK);
    this.budgets = [new CellBudget(cells, shared), new CellBudget(cells, shared)];
    this.lives = drawn.map(({ source, hop, ...more }, n) => {
      const ends = { source: HOSTS[source] ?? 'a', destination: HOSTS[(source + hop) % 3] ?? 'b' };
      return new Life(demand(`m${n}`, { ...more, ...ends }));
    });
    for (const host of HOSTS) for (const way of ['>', '<']) this.capacity.set(`${way}${host}`, RATE * MIB);
    this.capacity.set('link', LINK * MIB);
  }

  budgetOf(n: number): CellBudget {
    return this.budgets[n % 2 === 0 ? 0 : 1];
  }

  /** What may flow on each resource. */
  use(): Map<string, number> {
    const use = new Map<string, number>();
    for (const life of this.lives) {
      for (const key of [`>${life.demand.source}`, `<${life.demand.destination}`, 'link']) {
        use.set(key, (use.get(key) ?? 0) + life.use);
      }
    }
    return use;
  }

  async setCapacity(of: number, to: number | null): Promise<void> {
    const host = HOSTS[of % 3] ?? 'a';
    const kind = of < 3 ? 'egress' : 'ingress';
    this.capacity.set(`${of < 3 ? '>' : '<'}${host}`, (to ?? RATE) * MIB);
    const override = to === null ? null : { bytesPerSec: to * MIB, by: 'operator', atMs: 0 };
    await this.budgets[0].override({ kind, host }, override);
  }

  /** Every worker works, nobody ends, until nothing changes any more. */
  async settle(): Promise<void> {
    const seen = (): string => JSON.stringify(this.lives.map(({ limit, read, unsaid }) => [limit, read, unsaid]));
    for (let before = ''; before !== seen(); ) {
      before = seen();
      for (const [n, life] of this.lives.entries()) for (let s = 0; s < 3; s += 1) await life.step(this.budgetOf(n));
    }
  }
}

describe('the budget against a model of its users', () => {
  test('what hypervisors may be using never exceeds a capacity, and where that was lowered it only falls', async () => {
    await fc.assert(
      fc.asyncProperty(anyLives, anyCommands, async (drawn, commands) => {
        const model = new Model(drawn);
        for (const command of commands) {
          const before = model.use();
          const idle = model.lives.filter(({ use }) => use === 0);
          const at = (n: number): Life =>
            model.lives[n % model.lives.length] ?? model.lives[0] ?? new Life(demand('none'));
          if (command.kind === 'steps') {
            const chosen = [...new Set(command.of.map((n) => n % model.lives.length))];
            await Promise.all(chosen.map((n) => at(n).step(model.budgetOf(n))));
          } else if (command.kind === 'die') at(command.of).die();
          else if (command.kind === 'end') await at(command.of).end(model.budgetOf(command.of));
          else await model.setCapacity(command.of, command.to);
          // One that was granted something that it had not heard of, or whose worker died, may begin though the capacity has
          // been lowered since and others have not followed yet: with what is its own of the lower one, or the least there
          // is, for it is never told 0 (that is no limit for QEMU).
          const begun = idle.filter(({ use }) => use > 0).length;
          const least = model.lives.length + begun * FLOOR_BYTES_PER_SEC;
          for (const [key, used] of model.use()) {
            const [capacity, was] = [model.capacity.get(key) ?? 0, before.get(key) ?? 0];
            const lowered = Math.max(capacity, was + (begun > 0 ? capacity : 0)) + least;
            expect(used).toBeLessThanOrEqual(was > capacity || capacity < RATE * MIB ? lowered : capacity);
          }
        }
      }),
      { numRuns: 150 },
    );
  });

  test('whatever happened before, everybody gets a turn once capacities are back and others end', async () => {
    await fc.assert(
      fc.asyncProperty(anyLives, anyCommands, async (drawn, commands) => {
        const model = new Model(drawn);
        for (const command of commands) {
          const life = model.lives[(command.kind === 'steps' ? (command.of[0] ?? 0) : command.of) % model.lives.length];
          if (command.kind === 'capacity') await model.setCapacity(command.of, command.to);
          else if (command.kind === 'die') life?.die();
          else if (command.kind === 'steps') await life?.step(model.budgets[0]);
        }
        for (let of = 0; of < 6; of += 1) await model.setCapacity(of, null);
        for (let turns = 0; turns <= model.lives.length; turns += 1) {
          await model.settle();
          const running = model.lives.filter((life) => !life.ended && life.limit > 0);
          const left = model.lives.filter((life) => !life.ended);
          // Somebody is always at work; no deadlock among those that wait.
          expect(running.length > 0 || left.length === 0).toBe(true);
          for (const life of running.slice(0, 1)) await life.end(model.budgets[1]);
        }
        expect(model.lives.every((life) => life.ended)).toBe(true);
        for (const { egress, ingress } of await model.budgets[0].use())
          expect([egress.counted, ingress.counted]).toEqual([0, 0]);
      }),
      { numRuns: 60 },
    );
  });

  test('in the long run nobody holds more than its hypervisor uses', async () => {
    await fc.assert(
      fc.asyncProperty(anyLives, anyCommands, async (drawn, commands) => {
        const model = new Model(drawn);
        for (const command of commands) {
          const life = model.lives[(command.kind === 'steps' ? (command.of[0] ?? 0) : command.of) % model.lives.length];
          if (command.kind === 'capacity') await model.setCapacity(command.of, command.to);
          else if (command.kind === 'die') life?.die();
          else if (command.kind === 'end') await life?.end(model.budgets[0]);
          else await life?.step(model.budgets[0]);
        }
        await model.settle();
        const use = model.use();
        for (const { host, egress, ingress } of await model.budgets[0].use()) {
          expect([host, egress.counted, ingress.counted]).toEqual([
            host,
            use.get(`>${host}`) ?? 0,
            use.get(`<${host}`) ?? 0,
          ]);
        }
      }),
      { numRuns: 60 },
    );
  });
});
