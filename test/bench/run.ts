/** One run: a lab with one guest of that profile, freshly booted, one contender that migrates it, and what that has cost. */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { downtimeLimit } from '../../src/convergence/downtime.ts';
import { vmDir } from '../../src/hypervisors/qemu/vm-dir.ts';
import { checkMemory } from '../../src/lab/guest/inspect.ts';
import { type Machine, withMonitor } from '../../src/lab/guests.ts';
import { type LabManifest, labDirOf } from '../../src/lab/manifest.ts';
import { type GuestProfile, PROFILE_NAMES, type ProfileName, profileNamed } from '../../src/lab/profiles.ts';
import { startLab } from '../../src/lab/start.ts';
import { stopLab } from '../../src/lab/stop.ts';
import { isCharted } from './charted.ts';
import type { Contender, Stage } from './contenders/contender.ts';
import {
  backToNormalMs,
  coresUsed,
  demandByPhase,
  demandOver,
  harmCpuMs,
  longestOfAll,
  longestStretchMs,
  observedDowntimeMs,
  resolutionMs,
} from './measures.ts';
import { Observer, observerArguments } from './observer.ts';
import type { Order, Result } from './results.ts';

export interface Terms {
  readonly bandwidthBytesPerSec: number;
  readonly maxStallMs: number;
  readonly limitMs: number;
}

export interface RunContext {
  readonly stateDir: string;
  readonly machine: Machine & { readonly qemu: string };
  readonly terms: Terms;
  readonly signal: AbortSignal;
}

/** After its boot a guest's first ticks come late. */
const SETTLE_MS = 500;
/** So long is looked at the guest before anybody does anything. */
const BASELINE_MS = 3_500;
/** After the end: time to have its CPU back, and a look at that it has. */
const AFTER_MS = 2_500;
/** Beside others who use more than this the figures are theirs as well. */
const QUIET_CORES = 0.3;
const TRACE_EVERY_MS = 150;

/** At which tick of its life a guest that changes is migrated: every phase has been seen by then. Others: once they were seen. */
const BEGIN_TICKS: Readonly<Partial<Record<ProfileName, number>>> = {
  // In its first busy phase, 6 s before that ends.
  bursty: 14 * 256,
  // 3 s before it turns hot for good.
  turning: 17 * 256,
};

/** Throws when the run could not be carried out at all, and what aborted the signal; nothing of the lab is left then, either. */
export async function runOnce(context: RunContext, order: Order, contender: Contender): Promise<Result> {
  const { stateDir, signal, machine } = context;
  const profile = profileNamed(profileOf(order.profile));
  // What a killed run has left.
  await stopLab(stateDir);
  const { manifest } = await startLab({
    hosts: 2,
    guests: 1,
    profiles: [profileOf(order.profile)],
    egressBytesPerSec: context.terms.bandwidthBytesPerSec,
    network: false,
    spread: false,
    stateDir,
    fleetFile: join(stateDir, 'fleet.yaml'),
    accel: machine.accel,
    machine,
    moreArguments: observerArguments(labDirOf(stateDir)),
    serveWith: null,
    env: process.env,
    signal,
    progress: () => undefined,
  });
  const observer = await Observer.open(labDirOf(stateDir), profile.phases.length > 1);
  try {
    return await measured(context, order, contender, { manifest, profile, observer });
  } finally {
    await observer.close();
    await stopLab(stateDir);
  }
}

interface Parts {
  readonly manifest: LabManifest;
  readonly profile: GuestProfile;
  readonly observer: Observer;
}

async function measured(context: RunContext, order: Order, contender: Contender, parts: Parts): Promise<Result> {
  const { terms, signal, stateDir } = context;
  const { manifest, profile, observer } = parts;
  const vm = manifest.guests[0]?.name ?? '';
  await abortableSleep(SETTLE_MS, signal);
  const sinceMs = performance.now();
  const beginTick = BEGIN_TICKS[profileOf(order.profile)];
  let writtenBytesPerSec: number | null = null;
  let turn = Promise.resolve();
  if (beginTick === undefined) {
    const before = await observer.written();
    await abortableSleep(BASELINE_MS, signal);
    const after = await observer.written();
    writtenBytesPerSec = ((after.bytes - before.bytes) / (after.atMs - before.atMs)) * 1_000;
  } else {
    turn = observer.untilTick(beginTick - (contender.leadMs * profile.tickHz) / 1_000, signal);
    // Who waits for it hears of an abort by other ways.
    if (contender.waits) turn.catch(() => undefined);
    else await turn;
  }
  signal.throwIfAborted();
  let freeUntilMs = performance.now();
  let resolveBegun = (): void => undefined;
  const begun = new Promise<void>((resolve) => {
    resolveBegun = resolve;
  });
  const stage: Stage = {
    manifest,
    stateDir,
    vm,
    profile,
    ...terms,
    downtimeLimitMs: downtimeLimit(terms.maxStallMs),
    signal,
    begun,
    turn,
    begin: async () => {
      if (beginTick !== undefined) await observer.untilTick(beginTick, signal);
      freeUntilMs = performance.now();
      resolveBegun();
    },
  };
  const { note, claims } = await contender.migrate(stage);
  signal.throwIfAborted();
  await abortableSleep(AFTER_MS, signal);
  signal.throwIfAborted();

  const free = { fromMs: sinceMs, toMs: freeUntilMs };
  const demands = demandByPhase(profile.phases, observer.cpu, observer.ticks, free);
  const demandAt = demandOver(profile.phases, demands, observer.ticks);
  const fromMs = observer.startedAtMs ?? freeUntilMs;
  const endMs = observer.endedAtMs ?? performance.now();
  const toMs = backToNormalMs(observer.cpu, demandAt, endMs);
  const last = observer.counters.at(-1);
  const longest = longestOfAll(observer.cpu, { fromMs, toMs });
  const others = observer.othersSeenMs > 0 ? observer.othersMs / observer.othersSeenMs : 0;
  return {
    ...order,
    at: new Date().toISOString(),
    terms,
    machine: {
      qemu: context.machine.qemu,
      cpus: availableParallelism(),
      loopsPerCpuSec: context.machine.loopsPerCpuSec,
    },
    done: observer.completed,
    totalMs: observer.completed ? (last?.totalMs ?? null) : null,
    wallMs: endMs - fromMs,
    harmCpuMs: harmCpuMs(observer.cpu, demandAt, { fromMs, toMs }),
    demandCores: demands.map((cores) => (Number.isNaN(cores) ? null : cores)),
    writtenBytesPerSec,
    longestStretchMs: longest === null ? 0 : longest.toMs - longest.fromMs,
    longestStretchAtMs: longest === null ? null : longest.fromMs - fromMs,
    longestStretchBeforeMs: longestStretchMs(observer.cpu, free),
    downtimeMs: observer.completed ? (last?.downtimeMs ?? null) : null,
    observedDowntimeMs: observer.completed ? observedDowntimeMs(observer.cpu, { fromMs, toMs }) : null,
    transferredBytes: last?.transferredBytes ?? 0,
    passes: last?.pass ?? 0,
    resolutionMs: resolutionMs(observer.cpu),
    othersCores: others,
    disturbed: others > QUIET_CORES,
    memoryFaults: await memoryFaults(manifest, vm, observer.completed, stateDir),
    note,
    claims,
    trace: isCharted(order) ? traceOf(observer, demandAt, fromMs) : null,
  };
}

async function memoryFaults(manifest: LabManifest, vm: string, moved: boolean, scratch: string): Promise<string[]> {
  const host = manifest.hosts[moved ? 1 : 0];
  const dir = vmDir(`${host?.runDir}/${vm}`);
  const { faults } = await withMonitor(dir, (qmp) => checkMemory(qmp, scratch));
  return [...faults];
}

function traceOf(observer: Observer, demandAt: (atMs: number) => number, fromMs: number): Result['trace'] {
  const points: NonNullable<Result['trace']> = [];
  let next = fromMs;
  for (const { atMs, remainingBytes, transferredBytes } of observer.counters) {
    if (atMs < next) continue;
    next = atMs + TRACE_EVERY_MS;
    const share = coresUsed(observer.cpu, { fromMs: atMs - TRACE_EVERY_MS, toMs: atMs }) / demandAt(atMs);
    // No two samples lay in between: the machine was too busy to look.
    if (Number.isNaN(share)) continue;
    points.push([Math.round(atMs - fromMs), remainingBytes, transferredBytes, Math.round(share * 1_000) / 1_000]);
  }
  return points;
}

function profileOf(name: string): ProfileName {
  const found = PROFILE_NAMES.find((known) => known === name);
  if (found === undefined) throw new Error(`there is no profile ${name}`);
  return found;
}
