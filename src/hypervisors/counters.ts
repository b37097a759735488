/** Counters of an outgoing migration, and what stands for them where a hypervisor has none. */
import type { MigrationSample } from './hypervisor.ts';

export type Counters = Pick<
  MigrationSample,
  | 'pass'
  | 'remainingBytes'
  | 'transferredBytes'
  | 'totalBytes'
  | 'rateBytesPerSec'
  | 'dirtyRateBytesPerSec'
  | 'downtimeMs'
>;

/** Before the first counters, and after a failure of which a hypervisor keeps none. */
export const NO_COUNTERS: Counters = {
  pass: 1,
  remainingBytes: 0,
  transferredBytes: 0,
  totalBytes: 0,
  rateBytesPerSec: 0,
  dirtyRateBytesPerSec: 0,
  downtimeMs: null,
};
