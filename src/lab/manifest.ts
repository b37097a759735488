/**
 * What a lab has made on this machine, written down before it is made, so that `lab down` finds all of it whatever became
 * of `lab up`. One lab for each state directory.
 */
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, mkdtempSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { HostevacError, reasonOf } from '../domain/errors.ts';
import { createDurably, errorCode, readSmallFile, writeDurably } from '../hypervisors/qemu/durable-file.ts';
import { LAB_DRIVERS } from './plan.ts';
import { PROFILE_NAMES } from './profiles.ts';

const processSchema = z.strictObject({ machine: z.string(), pid: z.int().min(1), startTicks: z.number() });

const manifestSchema = z.strictObject({
  /** Labs of before there was a choice have none. */
  driver: z.enum(LAB_DRIVERS).default('qemu'),
  id: z.string().regex(/^[0-9a-f]{4}$/),
  /** Holds the hosts' run directories, the images and the log; all of it is the lab's (see `placeFault`). */
  place: z.string().startsWith('/'),
  /** `starting`: as long as `starter` lives it is being made; after that it is what a crash has left. */
  state: z.enum(['starting', 'up']),
  starter: processSchema,
  hosts: z.array(
    z.strictObject({
      name: z.string(),
      runDir: z.string(),
      migrationAddress: z.string(),
      ports: z.strictObject({ first: z.int(), last: z.int() }),
      networkNamespace: z.string().nullable(),
    }),
  ),
  guests: z.array(
    z.strictObject({ name: z.string(), uuid: z.string(), profile: z.enum(PROFILE_NAMES), host: z.string() }),
  ),
  fleetFile: z.strictObject({ path: z.string(), sha256: z.string() }).nullable(),
  /** The `hostevac up` that serves it. */
  up: z.strictObject({ process: processSchema, url: z.string().nullable() }).nullable(),
});
export type LabManifest = z.output<typeof manifestSchema>;

/** Sockets' paths end at 107 bytes; a run directory may have 60 (see the fleet file), `/lab-a` being a part of it. */
const LONGEST_PLACE = 54;

const SHORT_PREFIX = '/tmp/hevlab-';
/** As `mkdtemp` names them. */
const SHORT_PLACE = /^\/tmp\/hevlab-[A-Za-z0-9]{6}$/;

export function labDirOf(stateDir: string): string {
  return join(stateDir, 'lab');
}

function manifestPath(stateDir: string): string {
  return join(labDirOf(stateDir), 'lab.json');
}

/** Where the lab's run directories go: the lab's own directory, or a short one where its path is too long for sockets. */
export function makePlace(stateDir: string): string {
  const own = labDirOf(stateDir);
  mkdirSync(own, { recursive: true, mode: 0o700 });
  // Not the system's temporary directory: TMPDIR may be as long.
  return Buffer.byteLength(own) <= LONGEST_PLACE ? own : mkdtempSync(SHORT_PREFIX);
}

/** Null: no lab. Throws `badInput` for a file that no lab has written. */
export function readManifest(stateDir: string): LabManifest | null {
  const path = manifestPath(stateDir);
  const text = readSmallFile(path);
  if (text === undefined) return null;
  const remedy = `end its QEMU processes and remove ${path}`;
  let manifest: LabManifest;
  try {
    manifest = manifestSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new HostevacError('badInput', `${path} is not what a lab writes; ${remedy}`, { cause: error });
  }
  const fault = placeFault(manifest.place, stateDir);
  if (fault !== null) throw new HostevacError('badInput', `${path} is not what a lab writes: ${fault}; ${remedy}`);
  return manifest;
}

/**
 * Tearing down removes the place and kills every QEMU that has a file in it: a record that was damaged or is not ours
 * must not make that the home directory, or another lab. Null: it is one that `makePlace` makes.
 */
function placeFault(place: string, stateDir: string): string | null {
  const own = labDirOf(stateDir);
  if (place === own) return null;
  const name = JSON.stringify(place);
  try {
    // The state directory may be reached by another path than when the lab was started.
    if (realpathSync(place) === realpathSync(own)) return null;
    if (!SHORT_PLACE.test(place)) return `its place ${name} is neither ${own} nor ${SHORT_PREFIX}XXXXXX`;
    const found = lstatSync(place);
    if (!found.isDirectory()) return `its place ${name} is no directory`;
    return found.uid === process.geteuid?.() ? null : `its place ${name} belongs to user ${found.uid}`;
  } catch (error) {
    // What a tear-down that was cut short, or the machine's start, has removed.
    if (errorCode(error) === 'ENOENT' && SHORT_PLACE.test(place)) return null;
    return `its place ${name}: ${reasonOf(error).message}`;
  }
}

/** False: there is one already. */
export function createManifest(stateDir: string, manifest: LabManifest): boolean {
  return createDurably(manifestPath(stateDir), `${JSON.stringify(manifest, null, 2)}\n`);
}

export function writeManifest(stateDir: string, manifest: LabManifest): void {
  writeDurably(manifestPath(stateDir), `${JSON.stringify(manifest, null, 2)}\n`);
}

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
