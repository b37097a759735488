/** What takes part in the benchmark: a way to migrate the one guest of a lab, under the same terms as all others. */
import type { LabManifest } from '../../../src/lab/manifest.ts';
import type { GuestProfile } from '../../../src/lab/profiles.ts';

export interface Stage {
  readonly manifest: LabManifest;
  readonly stateDir: string;
  readonly vm: string;
  readonly profile: GuestProfile;
  readonly bandwidthBytesPerSec: number;
  /** The longest standstill that the user allows, and what is left of it for sending the last bytes. */
  readonly maxStallMs: number;
  readonly downtimeLimitMs: number;
  /** From `migrate` on; one that has not ended by then is cancelled and counts as not done. */
  readonly limitMs: number;
  readonly signal: AbortSignal;
  /** Everything is prepared: resolves when `migrate` is to be said. */
  begin(): Promise<void>;
  /** Resolves then, too. */
  readonly begun: Promise<void>;
}

export interface Contender {
  readonly name: string;
  readonly what: string;
  /** Ours are told when a run is compared with "ours". */
  readonly ours: boolean;
  /** What it does with the guest before `begin`, ms: it is called so much earlier. */
  readonly leadMs: number;
  /** Returns when the migration has ended or was cancelled; what is worth telling of how. */
  migrate(stage: Stage): Promise<string | null>;
}
