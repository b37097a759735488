/** `lab down`: everything that a lab has made is ended and removed, whatever state it is in. Twice is harmless. */
import { readFileSync, rmSync } from 'node:fs';
import { HostevacError } from '../domain/errors.ts';
import { errorCode } from '../hypervisors/qemu/durable-file.ts';
import { isDeadHere } from '../runtime/process-identity.ts';
import { removeGroups } from './libvirt/control-groups.ts';
import { daemonsOf } from './libvirt/daemon.ts';
import { type LabManifest, labDirOf, readManifest, sha256 } from './manifest.ts';
import { removeNetwork } from './network.ts';
import { endProcesses, qemusOf } from './processes.ts';
import { endUp } from './serve.ts';

export interface StoppedLab {
  readonly guests: number;
  /** The fleet file, when somebody has changed it since. */
  readonly kept: readonly string[];
}

/** Null: there was none. Throws `labUnfit` when something stays; then it may be tried again. */
export async function stopLab(stateDir: string): Promise<StoppedLab | null> {
  const manifest = readManifest(stateDir);
  if (manifest === null) return null;
  if (manifest.state === 'starting' && !isDeadHere(manifest.starter)) {
    const { pid } = manifest.starter;
    throw new HostevacError('labUnfit', `process ${pid} is starting this lab right now; end that one first (Ctrl-C)`);
  }
  return tearDown(stateDir, manifest);
}

/** In reverse order: who starts processes goes first, the record of it all last. */
export async function tearDown(stateDir: string, manifest: LabManifest): Promise<StoppedLab> {
  if (manifest.up !== null && !isDeadHere(manifest.up.process)) await endUp(manifest.up.process);
  const { place, id, driver } = manifest;
  const ended = new Set<number>();
  // Again until none is found: one may have been started a moment before what started it ended.
  for (;;) {
    const guests = qemusOf(place);
    const left = driver === 'libvirt' ? [...guests, ...daemonsOf(place, id)] : guests;
    if (left.length === 0) break;
    for (const { pid } of guests) ended.add(pid);
    await endProcesses(left);
  }
  if (driver === 'libvirt') await removeGroups(id);
  await removeNetwork(id);
  const kept = removeFleetFile(manifest);
  rmSync(place, { recursive: true, force: true });
  rmSync(labDirOf(stateDir), { recursive: true, force: true });
  return { guests: ended.size, kept };
}

function removeFleetFile({ fleetFile }: LabManifest): string[] {
  if (fleetFile === null) return [];
  try {
    if (sha256(readFileSync(fleetFile.path, 'utf8')) !== fleetFile.sha256) return [fleetFile.path];
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
  rmSync(fleetFile.path);
  return [];
}
