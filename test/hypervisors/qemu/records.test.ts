/** The small records beside a VM: which migration is ours, and who drove it last. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type MigrationRecord,
  noteEnd,
  readMigration,
  recordOf,
  writeMigration,
} from '../../../src/hypervisors/qemu/migration-file.ts';
import { assertMayDrive } from '../../../src/hypervisors/qemu/token-file.ts';
import { type VmDir, vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';
import { startTicksOf, thisProcess } from '../../../src/runtime/process-identity.ts';
import { heldFence, lostFence } from '../hypervisor-behaviour.ts';

let root: string;
let dir: VmDir;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmrec-'));
  dir = vmDir(join(root, 'x'));
  mkdirSync(dir.path);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const RECORD: MigrationRecord = {
  migrationId: 'm1',
  destination: 'b',
  uri: 'tcp:10.0.0.2:49152',
  token: 3,
  pid: 100,
  startTicks: 5_000,
  startedAtMonotonicMs: 60_000,
  gated: false,
  status: 'started',
};
const RUNNING = {
  process: { pid: 100, startTicks: 5_000 },
  inFlight: true,
  sinceMs: 10_000,
  monotonicMs: 70_050,
};

describe('the record of a migration', () => {
  test('is of the migration that QEMU runs', () => {
    expect(recordOf(RECORD, RUNNING)).toBe(RECORD);
    const { sinceMs: _, ...settingUp } = RUNNING;
    expect(recordOf(RECORD, { ...settingUp, sinceMs: undefined })).toBe(RECORD);
  });

  test.each([
    ['there is none', undefined, {}],
    ['another process', RECORD, { process: { pid: 100, startTicks: 5_001 } }],
    ['ours had ended before', { ...RECORD, status: 'cancelled' as const }, {}],
    ['it began later', RECORD, { sinceMs: 1_000, monotonicMs: 500_000 }],
    ['it began before', RECORD, { sinceMs: 60_000 }],
  ])('is not: %s', (_, record, running) => {
    expect(recordOf(record, { ...RUNNING, ...running })).toBeNull();
  });

  test('keeps how it ended, once', () => {
    writeMigration(dir, RECORD);
    noteEnd(dir, RECORD, 'completed');
    expect(readMigration(dir)).toEqual({ ...RECORD, status: 'completed' });
    noteEnd(dir, { ...RECORD, status: 'completed' }, 'failed');
    expect(readMigration(dir)?.status).toBe('completed');
    expect(recordOf(readMigration(dir), { ...RUNNING, inFlight: false })?.migrationId).toBe('m1');
  });

  test('that cannot be read is none', () => {
    writeFileSync(dir.migration, '{"migrationId":');
    expect(readMigration(dir)).toBeUndefined();
  });
});

describe('the token of a VM', () => {
  const shownBy = (pid: number, token: number) => {
    const { machine } = thisProcess();
    writeFileSync(dir.token, JSON.stringify({ token, machine, pid, startTicks: startTicksOf(pid) }));
  };
  const shown = () => JSON.parse(readFileSync(dir.token, 'utf8')).token;

  test('only grows while another process that has shown it lives: a smaller one is stale', () => {
    shownBy(process.ppid, 6);
    expect(() => assertMayDrive(heldFence(5), dir, 'web-1')).toThrow(/token 6; this one has 5, which is stale/);
    expect(shown()).toBe(6);
    assertMayDrive(heldFence(7), dir, 'web-1');
    expect(shown()).toBe(7);
  });

  test('begins again for a process whose store was emptied', () => {
    assertMayDrive(heldFence(900), dir, 'web-1');
    assertMayDrive(heldFence(1), dir, 'web-1');
    expect(shown()).toBe(1);
  });

  test('of a process that is gone keeps nobody out: tokens of a new store begin again', () => {
    const { machine, pid } = thisProcess();
    writeFileSync(dir.token, JSON.stringify({ token: 900, machine, pid, startTicks: 1 }));
    assertMayDrive(heldFence(1), dir, 'web-1');
    expect(shown()).toBe(1);
  });

  test('is not shown by whoever lost the lease', () => {
    expect(() => assertMayDrive(lostFence(9), dir, 'web-1')).toThrow(/the lease ran out/);
    assertMayDrive(heldFence(1), dir, 'web-1');
  });
});
