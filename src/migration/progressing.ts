/** Noticing that nothing moves. */
import type { MigrationSample } from '../hypervisors/hypervisor.ts';

/** No byte for this long is a failed link (design, "Convergence"). */
export const SILENCE_MS = 10_000;

export class Progressing {
  #bytes = -1;
  #sinceMs = 0;

  silentFor(sample: MigrationSample): number {
    if (sample.transferredBytes !== this.#bytes) {
      this.#bytes = sample.transferredBytes;
      this.#sinceMs = sample.atMs;
    }
    return sample.atMs - this.#sinceMs;
  }
}
