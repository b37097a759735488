/**
 * Evidence over time: what of it stays in a bounded list while a migration lasts, and what of a migration is kept for the
 * later ones of the same VM, with how far off its predictions were. Who stores it, and where, is not decided here. Pure.
 */
import { z } from 'zod';
import { type DirtyWindow, dirtyWindowSchema, intervalSchema, type Prediction } from '../domain/prediction.ts';
import type { DirtyModel, Estimate } from './dirty-model.ts';
import { isSound } from './evidence.ts';

const KEPT_MIGRATIONS = 5;
const KEPT_WINDOWS = 3;
const KEPT_FOR_MS = 60 * 86_400_000;

const estimateSchema = z.object({ value: z.number().nullable(), low: z.number(), high: z.number().nullable() });

const comparisonSchema = z.object({ predicted: intervalSchema, actual: z.number() });

const pastMigrationSchema = z.object({
  /** Fleet time. */
  endedAtMs: z.number(),
  /** As it was believed to be at the end. */
  rateBytesPerSec: estimateSchema,
  workingSetBytes: estimateSchema,
  windows: z.array(dirtyWindowSchema).max(KEPT_WINDOWS),
  /** What was predicted before the start, and what it was; null: nothing predicted, or it did not end well. */
  totalMs: comparisonSchema.nullable(),
  harmCpuMs: comparisonSchema.nullable(),
});
type PastMigration = z.infer<typeof pastMigrationSchema>;

/** Of one VM, the latest last. */
export const historySchema = z.array(pastMigrationSchema).max(KEPT_MIGRATIONS);
export type History = z.infer<typeof historySchema>;
export const NO_HISTORY: History = [];

/** A migration that has ended, as its controller knew it. */
export interface EndedMigration {
  readonly endedAtMs: number;
  readonly evidence: readonly DirtyWindow[];
  readonly model: Pick<DirtyModel, 'rateBytesPerSec' | 'workingSetBytes'>;
  /** Before its start. */
  readonly predicted: Pick<Prediction, 'totalMs' | 'harmCpuMs'> | null;
  /** null: it did not complete. */
  readonly actual: { readonly totalMs: number; readonly harmCpuMs: number } | null;
}

/** `kept` with one more migration; the oldest goes when there are more than five. */
export function toHistory(kept: History, ended: EndedMigration): History {
  const { endedAtMs, evidence, model, predicted, actual } = ended;
  const past: PastMigration = {
    endedAtMs,
    rateBytesPerSec: plain(model.rateBytesPerSec),
    workingSetBytes: plain(model.workingSetBytes),
    windows: spread(evidence.filter((window) => window.source !== 'history' && isSound(window))),
    totalMs: compared(predicted?.totalMs, actual?.totalMs),
    harmCpuMs: compared(predicted?.harmCpuMs, actual?.harmCpuMs),
  };
  return [...kept, past].slice(-KEPT_MIGRATIONS);
}

function plain({ value, low, high }: Estimate): PastMigration['rateBytesPerSec'] {
  return { value, low, high };
}

function compared(predicted: Prediction['totalMs'] | undefined, actual: number | undefined) {
  return predicted === undefined || actual === undefined ? null : { predicted, actual };
}

/** The newest of the shortest looks, of the middle ones and of the longest. */
function spread(windows: readonly DirtyWindow[]): DirtyWindow[] {
  const byLength = [...windows].sort((a, b) => a.cpuMs - b.cpuMs);
  const third = Math.ceil(byLength.length / KEPT_WINDOWS);
  return Array.from({ length: KEPT_WINDOWS }, (_, index) => newest(byLength.slice(index * third, (index + 1) * third)))
    .filter((window) => window !== null)
    .map((window) => ({ ...window }));
}

function newest(windows: readonly DirtyWindow[]): DirtyWindow | null {
  return windows.reduce<DirtyWindow | null>((a, b) => (a === null || b.atMs > a.atMs ? b : a), null);
}

/** What is still worth knowing of earlier migrations, at most 15 looks, by time. None lies in the future. */
export function fromHistory(kept: History, nowMs: number): DirtyWindow[] {
  return kept
    .filter(({ endedAtMs }) => nowMs - endedAtMs <= KEPT_FOR_MS)
    .flatMap(({ windows }) => windows)
    .map((window): DirtyWindow => ({ ...window, atMs: Math.min(window.atMs, nowMs), source: 'history' }))
    .sort((a, b) => a.atMs - b.atMs);
}

const LIVE_LIMIT = 18;
const HISTORY_LIMIT = 6;
/** The latest stay in any case: only they show how the guest is now. */
const LATEST = 8;
/** Of those before, so many that show it otherwise are kept on request: what it did two minutes ago it may do again. */
const OTHERWISE = 4;
const OTHERWISE_FOR_MS = 120_000;
const OTHERWISE_FACTOR = 3;
const COMPARABLE = 2;

/**
 * At most 24 of them, by time, each once: the latest, and of those before first the newest of each length, an octave a
 * length, so that short looks (which show the rate) and long ones (the working set) stay; with `keepOtherwise` before those
 * some of the last two minutes that show another guest than the latest do. Those that cannot be true go.
 * `nowMs`: looks that claim to come from later count as being of now, and so cannot push true ones out for ever.
 */
export function compactEvidence(
  evidence: readonly DirtyWindow[],
  nowMs: number,
  { keepOtherwise = false }: { readonly keepOtherwise?: boolean } = {},
): DirtyWindow[] {
  const unique = new Map(
    evidence.filter(isSound).map((window) => {
      const atMs = Math.min(window.atMs, nowMs);
      return [JSON.stringify([atMs, window.cpuMs, window.bytes, window.source]), { ...window, atMs }] as const;
    }),
  );
  const newestFirst = [...unique.values()].sort((a, b) => b.atMs - a.atMs);
  const live = newestFirst.filter(({ source }) => source !== 'history');
  const earlier = newestFirst.filter(({ source }) => source === 'history');
  const latest = live.slice(0, LATEST);
  const before = live.slice(LATEST);
  const young = before.filter((window) => keepOtherwise && nowMs - window.atMs <= OTHERWISE_FOR_MS);
  const otherwise = varied(young.filter((window) => isOtherwise(window, latest))).slice(0, OTHERWISE);
  const others = before.filter((window) => !otherwise.includes(window));
  return [
    ...varied(earlier).slice(0, HISTORY_LIMIT),
    ...latest,
    ...otherwise,
    ...varied(others).slice(0, LIVE_LIMIT - LATEST - otherwise.length),
  ].sort((a, b) => a.atMs - b.atMs);
}

/** It shows three times as much as one of about its length, or a third, whatever their errors. */
function isOtherwise(window: DirtyWindow, latest: readonly DirtyWindow[]): boolean {
  const perMs = ({ bytes, cpuMs }: DirtyWindow) => bytes / cpuMs;
  const errorPerMs = ({ errorBytes, cpuMs }: DirtyWindow) => errorBytes / cpuMs;
  const isAbove = (a: DirtyWindow, b: DirtyWindow) =>
    perMs(a) - errorPerMs(a) > OTHERWISE_FACTOR * (perMs(b) + errorPerMs(b));
  return latest
    .filter(({ cpuMs }) => cpuMs <= window.cpuMs * COMPARABLE && cpuMs >= window.cpuMs / COMPARABLE)
    .some((other) => isAbove(window, other) || isAbove(other, window));
}

/** Newest first within each round: one of each length, then the next of each length, and so on. */
function varied(newestFirst: readonly DirtyWindow[]): DirtyWindow[] {
  const seen = new Map<number, number>();
  return newestFirst
    .map((window) => {
      const octave = Math.round(Math.log2(window.cpuMs));
      const turn = seen.get(octave) ?? 0;
      seen.set(octave, turn + 1);
      return { window, turn };
    })
    .sort((a, b) => a.turn - b.turn)
    .map(({ window }) => window);
}
