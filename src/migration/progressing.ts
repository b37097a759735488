/** Noticing that nothing moves. */
import type { MigrationSample } from '../hypervisors/hypervisor.ts';

/** No byte for this long is a failed link (design, "Convergence"). */
export const SILENCE_MS = 10_000;

export class Progressing {
  #bytes = -1;
  #settingUp = false;
  #sinceMs = 0;

  silentFor({ atMs, status, transferredBytes }: MigrationSample): number {
    const settingUp = status === 'setup';
    if (transferredBytes !== this.#bytes || settingUp !== this.#settingUp) {
      this.#bytes = transferredBytes;
      this.#settingUp = settingUp;
      this.#sinceMs = atMs;
    }
    return atMs - this.#sinceMs;
  }
}
