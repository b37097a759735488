/** What takes part in the benchmark: a way to migrate the one guest of a lab, under the same terms as all others. */
import type { MigrationFigures } from '../../../src/domain/operation.ts';
import type { Prediction } from '../../../src/domain/prediction.ts';
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
  /**
   * Resolves when its turn comes, `leadMs` before `begin`: until then its host's bandwidth belongs to somebody else. For
   * contenders that do something with the guest before it.
   */
  readonly turn: Promise<void>;
  /** Everything is prepared: resolves when `migrate` is to be said. */
  begin(): Promise<void>;
  /** Resolves then, too. */
  readonly begun: Promise<void>;
}

/** What a contender says of its own. */
export interface Told {
  /** What is worth telling of how it ended. */
  readonly note: string | null;
  /** What it predicted before the start, and what it says that it came to; null: it does neither. */
  readonly claims: {
    readonly predicted: Prediction | null;
    readonly figures: MigrationFigures;
  } | null;
}

export interface Contender {
  readonly name: string;
  readonly what: string;
  /** Ours are told when a run is compared with "ours". */
  readonly ours: boolean;
  /** What it does between its turn and `begin`, ms. */
  readonly leadMs: number;
  /** True: it is called before its turn. */
  readonly waits: boolean;
  /** Returns when the migration has ended or was cancelled. */
  migrate(stage: Stage): Promise<Told>;
}
