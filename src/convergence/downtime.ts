/** How long a guest may stand still, in the hypervisor's terms. */
import type { GuestFacts } from './dirty-model.ts';

/**
 * What a switchover takes beside sending the last bytes (device state, the other side's start), at the most that is planned
 * for: of the order of what QEMU asked directly needs, 20..40 ms, more on a busy machine. The hypervisor's limit is that much
 * below max stall, so that the promise holds.
 */
const HANDOVER_MS = 50;
/** The part of the downtime that no bandwidth shortens: the middle of the 20..40 ms of passes measured on QEMU 10.0. */
const USUAL_MS = 30;

/** The downtime limit that keeps the guest's whole standstill within `stallMs`. `handoverMs`: its hypervisor's. */
export function downtimeLimit(stallMs: number, handoverMs = HANDOVER_MS): number {
  return Math.max(stallMs / 2, stallMs - handoverMs);
}

/** What the handover is expected to take, ms. A hypervisor that is slower at most is taken to be as much slower usually. */
export function usualHandoverMs({ handoverMs = HANDOVER_MS }: Pick<GuestFacts, 'handoverMs'>): number {
  return Math.max(0, USUAL_MS + handoverMs - HANDOVER_MS);
}
