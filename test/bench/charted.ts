/** Which runs the chart may show: only of those is a trace kept. */
import type { Order } from './results.ts';

export const CHARTED_PROFILE = 'hot';
export const GUEST = 'guest that writes 160 MiB/s over a 40 MiB/s link';
/** The preset for evacuations has the first one's aggression; any other of ours if it was not run. */
export const CHARTED_OURS: readonly string[] = ['leastHarm-0.5', 'leastHarm-1', 'leastHarm-0', 'rfc2011'];
export const CHARTED_PEER = 'autoConverge';

export function isCharted({ profile, contender }: Order): boolean {
  return profile === CHARTED_PROFILE && (contender === CHARTED_PEER || CHARTED_OURS.includes(contender));
}
