/** Two QEMUs and a migration between them, driven directly over QMP: what every peer of ours is made of. */
import { mkdirSync } from 'node:fs';
import { z } from 'zod';
import { abortableSleep } from '../../../src/clock/abortable-sleep.ts';
import { anyAnswer, type MigrateAnswer, migrateAnswer } from '../../../src/hypervisors/qemu/answers.ts';
import { startProcess, tail } from '../../../src/hypervisors/qemu/process.ts';
import { connectQmp } from '../../../src/hypervisors/qemu/qmp/client.ts';
import type { Qmp } from '../../../src/hypervisors/qemu/qmp/qmp.ts';
import { vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';
import { readDefinition } from '../../../src/hypervisors/qemu/vm-file.ts';
import { QEMU } from '../../../src/lab/guests.ts';
import type { LabManifest } from '../../../src/lab/manifest.ts';
import type { Stage, Told } from './contender.ts';

type Host = LabManifest['hosts'][number];

const LOOK_EVERY_MS = 50;
const START_LIMIT_MS = 20_000;
/** For a migration that was cancelled, or that may not be cancelled any more. */
const END_LIMIT_MS = 60_000;

export interface Settings {
  /** Beside `events` and `return-path`, at the source; those for post-copy at both ends. */
  readonly capabilities?: readonly string[];
  readonly parameters?: Readonly<Record<string, unknown>>;
}

export interface Look {
  readonly elapsedMs: number;
  readonly pass: number;
  readonly remainingBytes: number;
  readonly status: string;
}

/** Asked at every look; what it returns ends the following. */
export type Steer = (look: Look, source: Qmp) => Promise<void>;

/** Migrates from the lab's first host to its second with these settings and `steer`s; cancels at the limit. */
export async function migratePair(stage: Stage, settings: Settings, steer: Steer): Promise<Told> {
  const [from, to] = stage.manifest.hosts;
  if (from === undefined || to === undefined) throw new Error('the lab has no two hosts');
  const source = await connectQmp(vmDir(`${from.runDir}/${stage.vm}`).monitor);
  let destination: Qmp | undefined;
  try {
    destination = await startDestination(stage, from, to);
    const uri = await prepare(stage, to, settings, source, destination);
    await stage.begin();
    await source.execute('migrate', anyAnswer, { uri });
    const { completed, note } = await follow(stage, source, steer);
    // A destination that was given up ends by itself.
    if (!completed) return { note, claims: null };
    // A guest that was held before its switchover arrives held.
    const { running, status } = await destination.execute('query-status', runSchema);
    if (!running && status === 'paused') await destination.execute('cont', anyAnswer);
    return { note, claims: null };
  } finally {
    source.close();
    destination?.close();
  }
}

interface Ended {
  readonly completed: boolean;
  readonly note: string | null;
}

const runSchema = z.looseObject({ running: z.boolean(), status: z.string() });

/** With the source's own arguments, in the second host's run directory, where the lab's end finds it. */
async function startDestination(stage: Stage, from: Host, to: Host): Promise<Qmp> {
  const definition = readDefinition(vmDir(`${from.runDir}/${stage.vm}`).definition);
  if (definition === undefined) throw new Error(`${stage.vm} has no definition`);
  const dir = vmDir(`${to.runDir}/${stage.vm}`);
  mkdirSync(dir.path, { recursive: true, mode: 0o700 });
  const socket = (path: string): string => `unix:${path},server=on,wait=off`;
  const ours = ['-qmp', socket(dir.monitor), '-qmp', socket(dir.spare), '-pidfile', dir.pid, '-incoming', 'defer'];
  const started = await startProcess({
    binary: QEMU,
    argv: [...definition.argv, ...ours],
    cwd: dir.path,
    logPath: dir.log,
    networkNamespace: to.networkNamespace,
  });
  for (const since = performance.now(); ; await abortableSleep(LOOK_EVERY_MS, stage.signal)) {
    stage.signal.throwIfAborted();
    if (started.exit() !== null) throw new Error(`the destination ended: ${tail(dir.log)}`);
    try {
      return await connectQmp(dir.monitor);
    } catch (error) {
      if (performance.now() - since > START_LIMIT_MS) throw error;
    }
  }
}

/** Where the destination listens. */
async function prepare(
  stage: Stage,
  to: Host,
  { capabilities = [], parameters = {} }: Settings,
  source: Qmp,
  destination: Qmp,
) {
  const on = (names: readonly string[]) => ({ capabilities: names.map((capability) => ({ capability, state: true })) });
  const both = ['events', 'return-path', ...capabilities.filter((name) => name.startsWith('postcopy'))];
  await destination.execute('migrate-set-capabilities', anyAnswer, on(both));
  await destination.execute('migrate-incoming', anyAnswer, { uri: `tcp:${to.migrationAddress}:0` });
  const { 'socket-address': addresses = [] } = await destination.execute('query-migrate', migrateAnswer);
  const port = addresses.find(({ type }) => type === 'inet')?.port;
  if (port === undefined) throw new Error(`the destination listens nowhere: ${JSON.stringify(addresses)}`);
  await source.execute('migrate-set-capabilities', anyAnswer, on([...new Set([...both, ...capabilities])]));
  await source.execute('migrate-set-parameters', anyAnswer, {
    'max-bandwidth': stage.bandwidthBytesPerSec,
    'max-postcopy-bandwidth': stage.bandwidthBytesPerSec,
    'downtime-limit': stage.downtimeLimitMs,
    ...parameters,
  });
  return `tcp:${to.migrationAddress}:${port}`;
}

async function follow(stage: Stage, source: Qmp, steer: Steer): Promise<Ended> {
  const since = performance.now();
  let cancelled = false;
  for (;;) {
    const answer = await source.execute('query-migrate', migrateAnswer);
    const elapsedMs = performance.now() - since;
    const look = lookOf(answer, elapsedMs);
    if (look.status === 'completed') return { completed: true, note: null };
    if (look.status === 'cancelled') return { completed: false, note: 'cancelled' };
    if (look.status === 'failed') {
      return { completed: false, note: `failed: ${answer['error-desc'] ?? 'QEMU says no more'}` };
    }
    const over = stage.signal.aborted || elapsedMs > stage.limitMs;
    if (over && !cancelled && look.status !== 'postcopy-active') {
      await source.execute('migrate_cancel', anyAnswer);
      cancelled = true;
    } else if (!cancelled && look.status === 'active') await steer(look, source);
    if (elapsedMs > stage.limitMs + END_LIMIT_MS) throw new Error(`still ${look.status} after ${elapsedMs} ms`);
    await abortableSleep(LOOK_EVERY_MS);
  }
}

function lookOf({ status = 'none', ram }: MigrateAnswer, elapsedMs: number): Look {
  return { elapsedMs, status, pass: ram?.['dirty-sync-count'] ?? 0, remainingBytes: ram?.remaining ?? 0 };
}
