/**
 * Those that raise what the switchover may take, step by step. Their times are meant for real guests on real networks; how
 * they are scaled to the lab's is said with each (docs/decisions/0022).
 */
import { anyAnswer } from '../../../src/hypervisors/qemu/answers.ts';
import type { Qmp } from '../../../src/hypervisors/qemu/qmp/qmp.ts';
import type { GuestProfile } from '../../../src/lab/profiles.ts';
import type { Contender } from './contender.ts';
import { type Look, migratePair } from './pair.ts';

const GIB = 2 ** 30;

function setDowntime(source: Qmp, ms: number): Promise<unknown> {
  return source.execute('migrate-set-parameters', anyAnswer, { 'downtime-limit': ms });
}

/**
 * oVirt's policy "Suspend workload if needed" (the engine's `MigrationPolicies`): 100 ms at first; `limit` is how often what
 * remains must have grown between two looks before a step is taken, strictly more often than that; then 5 s, then an end.
 */
export const OVIRT_STEPS: readonly { readonly limit: number; readonly downtimeMs: number | null }[] = [
  { limit: 1, downtimeMs: 150 },
  { limit: 2, downtimeMs: 200 },
  { limit: 3, downtimeMs: 300 },
  { limit: 4, downtimeMs: 400 },
  { limit: 6, downtimeMs: 500 },
  { limit: -1, downtimeMs: 5_000 },
  // It gives up.
  { limit: -1, downtimeMs: null },
];
const OVIRT_FIRST_DOWNTIME_MS = 100;
/** VDSM looks every 10 s (lib/vdsm/virt/migration.py): somewhat longer than 8 GiB take at 10 Gbit/s. */
const OVIRT_LOOK_MS = 10_000;
const OVIRT_PASS_MS = (8 * GIB * 8_000) / 10e9;

/** As long, measured in first passes of the guest, as VDSM's. */
export function ovirtLookMs(profile: Pick<GuestProfile, 'touchedBytes'>, bandwidthBytesPerSec: number): number {
  return (OVIRT_LOOK_MS * ((profile.touchedBytes * 1_000) / bandwidthBytesPerSec)) / OVIRT_PASS_MS;
}

/** VDSM's monitor: counts how often what remains has grown, and takes one step at most each time it did. */
export class OvirtLadder {
  readonly #everyMs: number;
  #nextMs: number;
  #last: number | null = null;
  #grown = 0;
  #step = 0;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
    this.#nextMs = everyMs;
  }

  /** What to do now; null: nothing. */
  next({ elapsedMs, remainingBytes }: Pick<Look, 'elapsedMs' | 'remainingBytes'>): (typeof OVIRT_STEPS)[number] | null {
    if (elapsedMs < this.#nextMs) return null;
    this.#nextMs += this.#everyMs;
    const grew = this.#last !== null && this.#last < remainingBytes;
    this.#last = remainingBytes;
    if (!grew) return null;
    this.#grown += 1;
    const step = OVIRT_STEPS[this.#step];
    if (step === undefined || step.limit >= this.#grown) return null;
    this.#step += 1;
    return step;
  }
}

/** With auto-converge, as that policy has it; without its XBZRLE, which any contender could use. */
export const ovirtSuspend: Contender = {
  name: 'ovirtSuspend',
  what: 'oVirt\'s "Suspend workload if needed": auto-converge, and up to 5 s of downtime',
  ours: false,
  leadMs: 0,
  waits: false,
  migrate: (stage) => {
    const ladder = new OvirtLadder(ovirtLookMs(stage.profile, stage.bandwidthBytesPerSec));
    const first = { 'downtime-limit': OVIRT_FIRST_DOWNTIME_MS };
    return migratePair(stage, { capabilities: ['auto-converge'], parameters: first }, async (look, source) => {
      const step = ladder.next(look);
      if (step === null) return;
      if (step.downtimeMs === null) await source.execute('migrate_cancel', anyAnswer);
      else await setDowntime(source, step.downtimeMs);
    });
  },
};

/** Nova's defaults (nova/conf/libvirt.py): `live_migration_downtime`, `_steps`, `_delay` and `_completion_timeout`, the latter two s for each GiB. */
const NOVA = { downtimeMs: 500, steps: 10, delaySec: 75, timeoutSec: 800 };
/** Where its time for a guest of the lab is longer, both times are shortened alike: else its action would never be seen. */
const NOVA_LATEST_MS = 45_000;

export interface NovaSchedule {
  /** In order: from then on so much. */
  readonly steps: readonly { readonly atMs: number; readonly downtimeMs: number }[];
  readonly forceAtMs: number;
}

/** Nova counts at least 2 GiB; the lab's guests have less, so what they use is counted. */
export function novaSchedule({ touchedBytes }: Pick<GuestProfile, 'touchedBytes'>): NovaSchedule {
  const gib = touchedBytes / GIB;
  const timeoutMs = NOVA.timeoutSec * 1_000 * gib;
  const scale = Math.min(1, NOVA_LATEST_MS / timeoutMs);
  const delayMs = NOVA.delaySec * 1_000 * gib * scale;
  const base = NOVA.downtimeMs / NOVA.steps;
  const more = (NOVA.downtimeMs - base) / NOVA.steps;
  const steps = Array.from({ length: NOVA.steps + 1 }, (_, index) => ({
    atMs: delayMs * index,
    downtimeMs: Math.floor(base + more * index),
  }));
  return { steps, forceAtMs: timeoutMs * scale };
}

/** `live_migration_timeout_action = force_complete`, without post-copy: the guest is paused until all has been sent. */
export const novaForceComplete: Contender = {
  name: 'novaForceComplete',
  what: "Nova's steps to 500 ms, then force_complete: the guest is paused",
  ours: false,
  leadMs: 0,
  waits: false,
  migrate: async (stage) => {
    const { steps, forceAtMs } = novaSchedule(stage.profile);
    const [first, ...later] = steps;
    let forced = false;
    const parameters = { 'downtime-limit': first?.downtimeMs ?? NOVA.downtimeMs };
    const told = await migratePair(stage, { parameters }, async ({ elapsedMs }, source) => {
      const due = later[0];
      if (due !== undefined && elapsedMs >= due.atMs) {
        later.shift();
        await setDowntime(source, due.downtimeMs);
      }
      if (!forced && elapsedMs >= forceAtMs) {
        forced = true;
        await source.execute('stop', anyAnswer);
      }
    });
    return { ...told, note: told.note ?? (forced ? 'paused at the end' : null) };
  },
};
