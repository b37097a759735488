/**
 * `migration.json` in the source's VM directory: the last migration out of there that we started. QEMU carries no id of
 * ours, so this file does; it survives the worker and QEMU. It speaks of one QEMU process only.
 */
import { z } from 'zod';
import { readSmallFile, writeDurably } from './durable-file.ts';
import { isSameProcess, type ProcessId } from './process.ts';
import type { VmDir } from './vm-dir.ts';

const schema = z.object({
  migrationId: z.string().min(1),
  destination: z.string().min(1),
  uri: z.string(),
  token: z.int(),
  pid: z.int().min(1),
  startTicks: z.int().min(0),
  /** CLOCK_MONOTONIC, shortly before `migrate` was sent. */
  startedAtMonotonicMs: z.number(),
  /** It waits before its switchover: a gatekeeper must know. */
  gated: z.boolean(),
  /** Last seen. */
  status: z.enum(['started', 'completed', 'failed', 'cancelled']),
});
export type MigrationRecord = z.output<typeof schema>;

/** undefined: none, or one that cannot be read; then what QEMU runs is nobody's we know. */
export function readMigration(dir: VmDir): MigrationRecord | undefined {
  const text = readSmallFile(dir.migration);
  if (text === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

export function writeMigration(dir: VmDir, record: MigrationRecord): void {
  writeDurably(dir.migration, `${JSON.stringify(record)}\n`);
}

/** Keeps how it ended, for the time when QEMU is gone and cannot be asked. */
export function noteEnd(dir: VmDir, record: MigrationRecord, status: 'completed' | 'failed' | 'cancelled'): void {
  if (record.status === 'started') writeMigration(dir, { ...record, status });
}

export interface Running {
  readonly process: ProcessId;
  /** Not yet ended, as QEMU says. */
  readonly inFlight: boolean;
  /** `total-time` of a migration in flight; undefined where QEMU does not tell (it is being set up). */
  readonly sinceMs: number | undefined;
  readonly monotonicMs: number;
}

/** The record is written just before `migrate` is sent; a command may take some seconds on a busy machine. */
const BEGAN_WITHIN_MS = 15_000;

/** The record, if it is of the migration that QEMU speaks of; a later one that somebody else started is not ours. */
export function recordOf(record: MigrationRecord | undefined, running: Running): MigrationRecord | null {
  if (record === undefined) return null;
  if (!isSameProcess(record, running.process)) return null;
  if (!running.inFlight) return record;
  if (record.status !== 'started') return null;
  if (running.sinceMs === undefined) return record;
  const beganAt = running.monotonicMs - running.sinceMs;
  return Math.abs(beganAt - record.startedAtMonotonicMs) <= BEGAN_WITHIN_MS ? record : null;
}
