/**
 * Who lets a migration go on that waits before its switchover when its worker no longer can: the guard process, which
 * outlives the worker. The guest stands still while it waits, so somebody must always be there to open the gate.
 */

export interface Gatekeeper {
  /** Before `migrate` is sent. `monitor` is the spare socket of the VM's QEMU at the source. Doing it twice is harmless. */
  open(gate: { readonly host: string; readonly vm: string; readonly monitor: string }): Promise<void>;
  /** Whoever opened it waits no longer for the last word: the gatekeeper gives it, until the gate is opened again. */
  abandon(gate: { readonly host: string; readonly vm: string }): Promise<void>;
  /** The migration has ended. Harmless when there is no such gate. */
  close(gate: { readonly host: string; readonly vm: string }): Promise<void>;
}
