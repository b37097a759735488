/** The budget over cells in memory. */
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { budgetBehaviour } from './budget-behaviour.ts';

budgetBehaviour('memory', async () => {
  const clock = new VirtualClock();
  const wakeups = new MemoryWakeups(clock);
  const cells = new MemoryCellStore(clock, wakeups);
  return { cells: [cells, cells], wakeups, close: async () => undefined };
});
