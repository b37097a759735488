/** Decisions in words that an operator understands. Decides nothing. Pure. */
import { formatDuration, formatRate, formatShare, formatSize } from '../domain/units.ts';
import type { DirtyModel, Estimate } from './dirty-model.ts';
import type { Standing } from './forward.ts';
import type { Candidate } from './policy-behaviour.ts';

function figure({ value, low, high }: Estimate, text: (value: number) => string): string | null {
  if (value !== null) return text(value);
  if (low > 0) return `at least ${text(low)}`;
  return high === null ? null : `at most ${text(high)}`;
}

/** `writes 164MiB/s over 64MiB`, `writes at least 600MiB/s`, `writes nobody knows how much yet`. */
export function describeGuest({ rateBytesPerSec, workingSetBytes }: DirtyModel): string {
  const rate = figure(rateBytesPerSec, formatRate);
  const set = figure(workingSetBytes, formatSize);
  if (rate === null && set === null) return 'writes nobody knows how much yet';
  return `writes${rate === null ? '' : ` ${rate}`}${set === null ? '' : ` over ${set}`}`;
}

export function describeRates(model: DirtyModel, { bandwidthBytesPerSec }: Standing): string {
  return `${describeGuest(model)}, ${formatRate(bandwidthBytesPerSec)} are sent`;
}

/** `ends in 1.9s (1.7s..2.4s) for 1.8 CPU-s`. */
function describeEnd({ prediction, endsInTime, share }: Candidate): string {
  const { totalMs, harmCpuMs } = prediction;
  if (endsInTime < 0.05) return share < 1 ? 'no end in sight' : 'does not end by itself';
  const span = `${formatDuration(totalMs.low)}..${formatDuration(totalMs.high)}`;
  return `ends in ${formatDuration(totalMs.value)} (${span}) for ${formatCpu(harmCpuMs.value)}`;
}

export function formatCpu(cpuMs: number): string {
  return `${(cpuMs / 1_000).toFixed(cpuMs < 9_950 ? 1 : 0)} CPU-s`;
}

/** `12%: writes 164MiB/s over 64MiB, 40MiB/s are sent; ends in 1.9s (1.7s..2.4s) for 1.8 CPU-s; gentler would cost ...`. */
export function explainChoice(candidate: Candidate, why: string, model: DirtyModel, from: Standing): string {
  const share = candidate.begins === 'now' ? formatShare(candidate.share) : '100%';
  const then = candidate.begins === 'nextPass' && candidate.share < 1 ? ` (${formatShare(candidate.share)} then)` : '';
  return `${share}: ${describeRates(model, from)}; ${describeEnd(candidate)}; ${why}${then}`;
}
