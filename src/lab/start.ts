/**
 * `lab up`: everything in order, each thing written down before it is made, so that whatever ends it half way (a fault, a
 * Ctrl-C, a kill) leaves nothing that `stop.ts` does not find.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { HostevacError } from '../domain/errors.ts';
import { badInput, printValue } from '../domain/problems.ts';
import { formatSize } from '../domain/units.ts';
import { isDeadHere, thisProcess } from '../runtime/process-identity.ts';
import { fleetFileFault, marked, writeFleetFile } from './fleet-file.ts';
import {
  type Accel,
  bootedInTime,
  imageOf,
  type Machine,
  probeMachine,
  QEMU,
  qemuVersion,
  startGuest,
  writeImages,
} from './guests.ts';
import { libvirtFault, startDaemons } from './libvirt/daemon.ts';
import { FLOPPY_BYTES } from './libvirt/domain-xml.ts';
import { type DomainOptions, domainBooted, startDomain } from './libvirt/domains.ts';
import { orUnfit } from './libvirt/virsh.ts';
import { createManifest, type LabManifest, makePlace, readManifest, sha256, writeManifest } from './manifest.ts';
import { makeNetwork, networkFault } from './network.ts';
import { faultsAreDear } from './page-faults.ts';
import { fleetText, type LabGuest, type LabHost, type LabOptions, planLab } from './plan.ts';
import { profileNamed } from './profiles.ts';
import { findProgram } from './programs.ts';
import { startUp, upIsReady } from './serve.ts';
import { tearDown } from './stop.ts';

export interface StartOptions extends LabOptions {
  readonly stateDir: string;
  /** Absolute. */
  readonly fleetFile: string;
  readonly accel: Accel | 'auto';
  /** As an earlier lab here has found it: guests of several labs are then the same. Without it, it is measured now. */
  readonly machine?: Machine;
  /** Further arguments for the QEMU of every guest, wherever it goes; not under libvirt. */
  readonly moreArguments?: readonly string[];
  /** How guests under libvirt are made. */
  readonly domains?: DomainOptions;
  /** Null: no `hostevac up` is started. */
  readonly serveWith: { readonly env: NodeJS.ProcessEnv; readonly program: string } | null;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** What is being done, one line each. */
  readonly progress: (line: string) => void;
}

export interface StartedLab {
  readonly manifest: LabManifest;
  readonly machine: Machine;
}

/** Throws `labUnfit` or `badInput` (nothing has been left behind then), and what aborted the signal. */
export async function startLab(options: StartOptions): Promise<StartedLab> {
  const { stateDir, signal, progress } = options;
  const { version, preallocates } = await fitMachine(options);
  refuseFleetFile(options.fleetFile);
  const id = randomBytes(2).toString('hex');
  const place = makePlace(stateDir);
  const { driver, hosts, guests } = planLab(options, place, id);
  let manifest: LabManifest = {
    driver,
    id,
    place,
    state: 'starting',
    starter: { machine: thisProcess().machine, pid: process.pid, startTicks: thisProcess().startTicks },
    hosts: [...hosts],
    guests: [...guests],
    fleetFile: null,
    up: null,
  };
  if (!createManifest(stateDir, manifest)) {
    if (place.startsWith('/tmp/hevlab-')) rmSync(place, { recursive: true });
    refuseSecondLab(stateDir);
    throw new HostevacError('labUnfit', 'another lab was started and ended at the same moment; try again');
  }
  const note = (change: Partial<LabManifest>): void => {
    manifest = { ...manifest, ...change };
    writeManifest(stateDir, manifest);
  };
  try {
    if (options.machine === undefined) progress(`${place}: looking how fast guests run here`);
    const machine = options.machine ?? (await probeMachine(options.accel, version, join(place, 'probe'), signal));
    for (const host of hosts) mkdirSync(host.runDir, { recursive: true, mode: 0o700 });
    if (options.network || driver === 'libvirt') await makeNetwork({ id, hosts }, options.egressBytesPerSec);
    await startGuests(await prepareGuests(options, manifest, { ...machine, preallocates }), options, manifest);
    const text = marked(fleetText({ driver, id, hosts, guests }, options.egressBytesPerSec));
    // Again: somebody may have made or changed it while the guests booted.
    refuseFleetFile(options.fleetFile);
    note({ fleetFile: { path: options.fleetFile, sha256: sha256(text) } });
    writeFleetFile(options.fleetFile, text);
    if (options.serveWith !== null) {
      const up = startUp({ place, fleetFile: options.fleetFile, ...options.serveWith });
      const process = { machine: thisProcess().machine, ...up };
      note({ up: { process, url: null } });
      progress('starting hostevac up in the background');
      const url = await upIsReady(up, place, signal);
      note({ up: { process, url } });
    }
    signal.throwIfAborted();
    note({ state: 'up' });
    return { manifest, machine };
  } catch (error) {
    progress('undoing what was started');
    await tearDown(stateDir, manifest);
    throw error;
  }
}

interface Fit {
  readonly version: Awaited<ReturnType<typeof qemuVersion>>;
  /** Guests are given all of their memory when QEMU starts. */
  readonly preallocates: boolean;
}

/** Everything that can be known before anything is made. */
async function fitMachine(options: StartOptions): Promise<Fit> {
  const { stateDir, env, network, driver, progress } = options;
  refuseSecondLab(stateDir);
  const preallocates = faultsAreDear();
  if (preallocates) progress('page faults are dear here: guests are given all of their memory at the start');
  const available = availableBytes(readFileSync('/proc/meminfo', 'utf8'));
  if (available === null) progress('/proc/meminfo does not say what memory is available: not checked');
  else refuseTooMuch(planLab(options, stateDir, '0000').guests, available, preallocates);
  const version = await qemuVersion(env['PATH']);
  const libvirt = driver === 'libvirt';
  const fault = (libvirt ? libvirtFault(env['PATH']) : null) ?? (network || libvirt ? await networkFault() : null);
  if (fault !== null) {
    const what = libvirt ? '--driver libvirt' : '--network';
    throw new HostevacError('labUnfit', `${what} is not possible: ${fault}`);
  }
  return { version, preallocates };
}

function refuseSecondLab(stateDir: string): void {
  const manifest = readManifest(stateDir);
  if (manifest === null) return;
  const { starter, state, place } = manifest;
  if (state === 'up') {
    throw new HostevacError(
      'labUnfit',
      `a lab is up already, in ${place}: hostevac lab status shows it, lab down ends it`,
    );
  }
  if (!isDeadHere(starter)) {
    throw new HostevacError('labUnfit', `process ${starter.pid} is starting a lab in ${place} right now`);
  }
  throw new HostevacError(
    'labUnfit',
    `a lab up that was killed has left things in ${place}: hostevac lab down removes them`,
  );
}

/** Of QEMU itself, for each guest. */
const QEMU_BYTES = 80 * 2 ** 20;

/** From /proc/meminfo; null: it does not say (a kernel before 3.14, or a container that shows its own). */
export function availableBytes(meminfo: string): number | null {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  return kib === undefined ? null : 1_024 * Number(kib);
}

/** A guest that migrates is there twice; a machine that runs out of memory ends processes that are not the lab's, too. */
export function refuseTooMuch(guests: readonly LabGuest[], available: number, preallocates: boolean): void {
  const needed = guests.reduce((sum, { profile }) => {
    const { memoryBytes, touchedBytes } = profileNamed(profile);
    return sum + 2 * ((preallocates ? memoryBytes : touchedBytes) + QEMU_BYTES);
  }, 0);
  if (needed <= available) return;
  throw new HostevacError(
    'labUnfit',
    `these ${guests.length} guests need up to ${formatSize(needed)} while they migrate, and ${formatSize(available)} are available; start fewer (--guests) or smaller ones (--profile)`,
  );
}

function refuseFleetFile(path: string): void {
  const fault = fleetFileFault(path);
  if (fault !== null) throw badInput([{ path: '--fleet-file', value: printValue(path), ...fault }], { what: 'lab up' });
}

/** Until it has booted. */
type StartGuest = (guest: LabGuest, host: LabHost) => Promise<void>;

/** All that must be there before the first of them. */
async function prepareGuests(
  options: StartOptions,
  manifest: LabManifest,
  machine: Machine & Pick<Fit, 'preallocates'>,
): Promise<StartGuest> {
  const { signal, progress, env, moreArguments = [], domains = {} } = options;
  const { driver, hosts, guests, place } = manifest;
  const { accel, preallocates } = machine;
  const images = join(place, 'images');
  if (driver === 'qemu') {
    writeImages(guests, images, machine);
    return async (guest, host) => {
      const started = await startGuest(guest, { host, images, accel, preallocates, moreArguments });
      await bootedInTime(started, signal);
    };
  }
  writeImages(guests, images, machine, FLOPPY_BYTES);
  const path = env['PATH'];
  const emulator = findProgram(QEMU, path) ?? QEMU;
  await orUnfit(startDaemons({ hosts, path, emulator, accel, signal, progress }));
  return async (guest, host) => {
    const image = imageOf(images, guest.profile);
    await orUnfit(startDomain(guest, { host, image, accel, preallocates, emulator, options: domains }, signal));
    await orUnfit(domainBooted(guest, host, signal));
  };
}

async function startGuests(
  start: StartGuest,
  { signal, progress }: StartOptions,
  manifest: LabManifest,
): Promise<void> {
  const { hosts, guests } = manifest;
  let ready = 0;
  const outcomes = await Promise.allSettled(
    guests.map(async (guest) => {
      const host = hosts.find(({ name }) => name === guest.host);
      if (host === undefined) throw new HostevacError('internal', `${guest.name} has no host ${guest.host}`);
      signal.throwIfAborted();
      await start(guest, host);
      ready += 1;
      progress(`${guest.name} runs on ${host.name} (${ready} of ${guests.length})`);
    }),
  );
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
