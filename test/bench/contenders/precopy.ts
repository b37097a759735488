/** QEMU left to itself: without a throttle, and with its auto-converge. */
import type { Contender } from './contender.ts';
import { migratePair, type Settings } from './pair.ts';

const NOTHING = async (): Promise<void> => undefined;

function leftToQemu(name: string, what: string, settings: Settings): Contender {
  return {
    name,
    what,
    ours: false,
    leadMs: 0,
    waits: false,
    migrate: (stage) => migratePair(stage, settings, NOTHING),
  };
}

export const none = leftToQemu('none', 'pre-copy and nothing else', {});

/** QEMU's defaults: from 20%, 10 more at a time, when more than 50% of what was sent was dirtied (migration/options.c). */
export const autoConverge = leftToQemu('autoConverge', "QEMU's auto-converge, its defaults", {
  capabilities: ['auto-converge'],
});

export const autoConvergeIncus = leftToQemu('autoConvergeIncus', 'auto-converge as Incus sets it: from 50%, at 20%', {
  capabilities: ['auto-converge'],
  parameters: { 'cpu-throttle-initial': 50, 'throttle-trigger-threshold': 20 },
});
