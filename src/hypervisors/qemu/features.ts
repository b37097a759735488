/**
 * What a QEMU can do, and what is done without what it cannot: pure, as one table. A refusal makes its VMs not migratable;
 * everything else is a stated step down.
 */

export interface QemuIs {
  readonly version: { readonly major: number; readonly minor: number; readonly micro: number };
  /** KVM runs the guest, not TCG. */
  readonly kvm: boolean;
  /** Names that `query-migrate-capabilities` lists. */
  readonly capabilities: ReadonlySet<string>;
}

interface Feature {
  readonly name: string;
  /** First release with it, as [major, minor]. */
  readonly since: readonly [number, number];
  /** The migration capability that stands for it, where there is one: a build may lack what its release has. */
  readonly capability?: string;
  readonly without: string;
}

/** Sources: "Since" notes in qapi/migration.json and qapi/machine.json. */
const FEATURES = {
  events: {
    name: 'migration events',
    since: [2, 4],
    capability: 'events',
    without: 'a change of status is seen at the next look, not at once',
  },
  returnPath: {
    name: 'return path',
    since: [2, 5],
    capability: 'return-path',
    without: "the source ends without the destination's word; the outcome is told by looking at both ends",
  },
  pauseBeforeSwitchover: {
    name: 'pause before switchover',
    since: [2, 11],
    capability: 'pause-before-switchover',
    without: 'it switches over by itself, without a last check',
  },
  postcopyBandwidth: {
    name: 'max-postcopy-bandwidth',
    since: [3, 0],
    without: 'max-bandwidth alone is set, which holds until post-copy begins',
  },
  postcopy: {
    name: 'post-copy that can be recovered',
    since: [3, 0],
    capability: 'postcopy-ram',
    without: 'a migration that does not converge cannot be switched to post-copy',
  },
  postcopyPreempt: {
    name: 'preemption in post-copy',
    since: [8, 0],
    capability: 'postcopy-preempt',
    without: 'a page that the guest waits for in post-copy comes behind those that are being sent',
  },
  portSearch: {
    name: 'telling the port it listens on',
    since: [4, 0],
    without: 'only the first port of the range is tried, so one VM arrives at a time',
  },
  blockedReasons: {
    name: 'listing what blocks a migration',
    since: [6, 0],
    without: 'a blocked VM is refused when its migration starts, not in the inventory',
  },
  dirtyRate: {
    name: 'measuring how a guest dirties its memory',
    since: [5, 2],
    without: 'a prediction before the start knows earlier migrations only, later the passes count',
  },
  dirtyRateSamplePages: {
    name: 'looking at more pages of a guest',
    since: [6, 1],
    without: 'one page in 512 is sampled, so what a small guest dirties is told less exactly',
  },
  dirtyRateMilliseconds: {
    name: 'looks at a guest of less than a second',
    since: [8, 2],
    without: 'how fast it writes is told as a lower bound where it has written all of its working set within a second',
  },
} as const satisfies Readonly<Record<string, Feature>>;

export type FeatureName = keyof typeof FEATURES;

/** `-incoming defer`, `query-cpus-fast` and runtime `migrate-set-parameters` are all there from here on. */
const OLDEST: readonly [number, number] = [2, 12];
/** Before it TCG marks pages dirty too late: measured 9.0 and later hold, 7.2 lost pages. */
const OLDEST_TCG: readonly [number, number] = [9, 0];

export interface Features {
  /** null: may be migrated. */
  readonly refusal: string | null;
  readonly has: Readonly<Record<FeatureName, boolean>>;
  /** One sentence for each thing that is missing. */
  readonly degradations: readonly string[];
}

function atLeast({ version }: QemuIs, [major, minor]: readonly [number, number]): boolean {
  return version.major > major || (version.major === major && version.minor >= minor);
}

export function featuresOf(qemu: QemuIs): Features {
  const here = `QEMU ${qemu.version.major}.${qemu.version.minor}.${qemu.version.micro}`;
  const has = (feature: Feature): boolean =>
    atLeast(qemu, feature.since) && (feature.capability === undefined || qemu.capabilities.has(feature.capability));
  const missing = Object.values<Feature>(FEATURES).filter((feature) => !has(feature));
  return {
    refusal: refusalOf(qemu, here),
    has: {
      events: has(FEATURES.events),
      returnPath: has(FEATURES.returnPath),
      pauseBeforeSwitchover: has(FEATURES.pauseBeforeSwitchover),
      postcopyBandwidth: has(FEATURES.postcopyBandwidth),
      postcopy: has(FEATURES.postcopy),
      postcopyPreempt: has(FEATURES.postcopyPreempt),
      portSearch: has(FEATURES.portSearch),
      blockedReasons: has(FEATURES.blockedReasons),
      dirtyRate: has(FEATURES.dirtyRate),
      dirtyRateSamplePages: has(FEATURES.dirtyRateSamplePages),
      dirtyRateMilliseconds: has(FEATURES.dirtyRateMilliseconds),
    },
    degradations: missing.map(
      ({ name, since, without }) => `${here} has no ${name} (from ${since.join('.')}): ${without}`,
    ),
  };
}

function refusalOf(qemu: QemuIs, here: string): string | null {
  if (!qemu.kvm && !atLeast(qemu, OLDEST_TCG)) {
    return `${here} without KVM (TCG) loses dirty pages while migrating: the copy's memory would be stale; run it with KVM, or with QEMU 9.0 or later`;
  }
  if (!atLeast(qemu, OLDEST)) {
    return `${here} is older than ${OLDEST.join('.')}, the oldest whose migration can be started and watched over QMP; upgrade QEMU`;
  }
  return null;
}
