/**
 * What a simulated guest does by itself: its phases, the CPU time it wants, and the bytes it dirties. Knows no
 * host, no migration and no command. Pure.
 */
import type { SimulatedVmSpec } from '../../domain/fleet.ts';
import { chance, uuidFrom } from './hash.ts';
import type { Guest, Phase } from './model.ts';

export function guestOf(spec: SimulatedVmSpec, seed: number): Guest {
  // Nothing can dirty more than there is.
  const within = (bytes: number) => Math.min(bytes, spec.memory);
  const always: Phase = {
    durationMs: 0,
    dirtyRateBytesPerSec: spec.dirtyRate,
    workingSetBytes: within(spec.workingSet),
    cpuUse: spec.cpuUse,
  };
  return {
    uuid: uuidFrom(seed, 'uuid', spec.name),
    memoryBytes: spec.memory,
    touchedBytes: within(spec.touched ?? spec.memory),
    cpus: spec.cpus,
    phases: spec.phases?.map((phase) => ({
      durationMs: phase.duration,
      dirtyRateBytesPerSec: phase.dirtyRate,
      workingSetBytes: within(phase.workingSet ?? spec.workingSet),
      cpuUse: phase.cpuUse ?? spec.cpuUse,
    })) ?? [always],
    ...(spec.labels === undefined ? {} : { labels: labelsOf(spec.labels) }),
    ...(spec.notMigratable === undefined ? {} : { notMigratable: spec.notMigratable }),
    ...(spec.ignoresShutdown === true ? { ignoresShutdown: true } : {}),
  };
}

function labelsOf(labels: NonNullable<SimulatedVmSpec['labels']>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

const STANDS_STILL: Phase = { durationMs: 0, dirtyRateBytesPerSec: 0, workingSetBytes: 0, cpuUse: 0 };

function cycleMs(guest: Guest): number {
  return guest.phases.reduce((sum, phase) => sum + phase.durationMs, 0);
}

/** The phase at a time and when it ends; null when it lasts for ever. */
export function phaseAt(guest: Guest, atMs: number): { readonly phase: Phase; readonly endsAtMs: number | null } {
  const last = guest.phases.at(-1) ?? STANDS_STILL;
  if (guest.phases.length < 2) return { phase: last, endsAtMs: null };
  const cycleStart = atMs - (atMs % cycleMs(guest));
  let endsAtMs = cycleStart;
  for (const phase of guest.phases) {
    endsAtMs += phase.durationMs;
    if (endsAtMs > atMs) return { phase, endsAtMs };
  }
  // Only rounding brings us here: a hair before the cycle's end.
  return { phase: last, endsAtMs: atMs + 1 };
}

/** CPU time the guest would have used unthrottled from fleet time 0, in ms. */
function wantedCpuMs(guest: Guest, toMs: number): number {
  if (guest.phases.length < 2) return (guest.phases[0]?.cpuUse ?? 0) * guest.cpus * toMs;
  const cycle = cycleMs(guest);
  const perCycle = guest.phases.reduce((sum, phase) => sum + phase.cpuUse * phase.durationMs, 0);
  let left = toMs % cycle;
  let busy = Math.round((toMs - left) / cycle) * perCycle;
  for (const phase of guest.phases) {
    const ms = Math.min(left, phase.durationMs);
    busy += ms * phase.cpuUse;
    left -= ms;
  }
  return busy * guest.cpus;
}

/** CPU time the guest would use unthrottled between two times, in ms. */
export function demandMs(guest: Guest, fromMs: number, toMs: number): number {
  return Math.max(0, wantedCpuMs(guest, toMs) - wantedCpuMs(guest, fromMs));
}

/**
 * Unique bytes dirtied, `ms` after there were `already`: D(t, c) of the design. They grow with the slope until they
 * reach the working set; from there the guest only writes again what it has written. A working set that shrank
 * takes nothing back.
 */
export function uniqueDirtied(already: number, slopeBytesPerSec: number, workingSetBytes: number, ms: number): number {
  if (already >= workingSetBytes) return already;
  return Math.min(workingSetBytes, already + (slopeBytesPerSec * ms) / 1_000);
}

/** No guest is perfectly even: its dirtying rate in a pass is off by up to 3% either way. */
export function passJitter(seed: number, vm: string, migration: number, pass: number): number {
  return 1 + 0.03 * (2 * chance(seed, 'dirty', vm, migration, pass) - 1);
}

/** A guest in post-copy is never slower than this while pages come: those it asks for come first. */
const LEAST_FED = 0.3;

/** The part of its demand that a guest gets whose pages are still coming; see post-copy.ts. */
export function fedShare(
  { setBytes, missingSetBytes }: { readonly setBytes: number; readonly missingSetBytes: number },
  rateBytesPerSec: number,
): number {
  if (missingSetBytes < 1) return 1;
  return rateBytesPerSec === 0 ? 0 : Math.max(LEAST_FED, 1 - missingSetBytes / Math.max(1, setBytes));
}

/** The part of the downtime that no bandwidth shortens: 20..40 ms. */
export function handoverMs(seed: number, vm: string, migration: number): number {
  return 20 + 20 * chance(seed, 'handover', vm, migration);
}
