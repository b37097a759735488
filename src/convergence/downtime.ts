/** How long a guest may stand still, in the hypervisor's terms. */

/**
 * What a switchover takes beside sending the last bytes (device state, the other side's start): the simulator's 20..40 ms,
 * of the order of what QEMU needs. The hypervisor's limit is that much below max stall, so that the promise holds.
 */
const HANDOVER_MS = 50;

/** The downtime limit that keeps the guest's whole standstill within `stallMs`. */
export function downtimeLimit(stallMs: number): number {
  return Math.max(stallMs / 2, stallMs - HANDOVER_MS);
}
