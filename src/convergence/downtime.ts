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

/** What the handover is expected to take, ms: as large a part of what is planned for as with QEMU. */
export function usualHandoverMs(guest: Handing): number {
  return (USUAL_MS / HANDOVER_MS) * plannedHandoverMs(guest);
}

/** What is planned for, ms. */
export function plannedHandoverMs({ handoverMs = HANDOVER_MS }: Handing): number {
  return handoverMs;
}

type Handing = Pick<GuestFacts, 'handoverMs'>;
