/**
 * The curve of a guest's dirtying: how many different bytes it has dirtied after so much CPU time, and how much CPU time
 * so many bytes take. What is believed of a real guest is `fit.ts`. Pure arithmetic.
 */
import type { Hypothesis } from './dirty-model.ts';

export type Curve = Pick<Hypothesis, 'rateBytesPerSec' | 'workingSetBytes' | 'pattern'>;

/**
 * D(u): different bytes dirtied from a clean start while the guest gets `cpuMs` of the CPU time that it demands.
 * At random a page is missed by n of N writes with (1 - 1/N)^n, about e^(-n/N). 0 for a curve or a time that is not above 0.
 */
export function dirtiedBytes({ rateBytesPerSec, workingSetBytes, pattern }: Curve, cpuMs: number): number {
  const writtenBytes = (rateBytesPerSec * cpuMs) / 1_000;
  if (!(writtenBytes > 0 && workingSetBytes > 0)) return 0;
  return pattern === 'sweep'
    ? Math.min(workingSetBytes, writtenBytes)
    : -workingSetBytes * Math.expm1(-writtenBytes / workingSetBytes);
}

/** The inverse: CPU time (ms) until so many different bytes are dirtied; Infinity when that never happens. */
export function cpuMsToDirty({ rateBytesPerSec, workingSetBytes, pattern }: Curve, bytes: number): number {
  if (!(bytes > 0)) return 0;
  if (!(rateBytesPerSec > 0 && bytes <= workingSetBytes)) return Number.POSITIVE_INFINITY;
  const writtenBytes = pattern === 'sweep' ? bytes : -workingSetBytes * Math.log1p(-bytes / workingSetBytes);
  return (writtenBytes / rateBytesPerSec) * 1_000;
}
