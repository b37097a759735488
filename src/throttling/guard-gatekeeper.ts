/** Who gives a migration its last word when its worker cannot: the guard, through the client of this process. */
import type { GuardClient } from './guard/client.ts';

export class GuardGatekeeper {
  readonly #guard: GuardClient;

  constructor(guard: GuardClient) {
    this.#guard = guard;
  }

  /** `monitor`: absolute path of a monitor socket that is kept free. Throws `throttleUnavailable` without a guard. */
  open({ host, vm, monitor }: { readonly host: string; readonly vm: string; readonly monitor: string }): Promise<void> {
    return this.#guard.gate(host, vm, monitor);
  }

  abandon({ host, vm }: { readonly host: string; readonly vm: string }): Promise<void> {
    return this.#guard.abandon(host, vm);
  }

  close({ host, vm }: { readonly host: string; readonly vm: string }): Promise<void> {
    return this.#guard.ungate(host, vm);
  }
}
