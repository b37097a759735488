/**
 * What stands in a host's run directory: one entry per directory that is, or may be, a VM. Whether a process runs is not
 * asked here.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { HostevacError, reasonOf } from '../../domain/errors.ts';
import { errorCode } from './durable-file.ts';
import { type VmDir, vmDir } from './vm-dir.ts';
import { nameIn, readDefinition, type VmDefinition } from './vm-file.ts';

export type Entry =
  | {
      readonly kind: 'vm';
      readonly dir: VmDir;
      readonly definition: VmDefinition;
      /** False: only `incoming.json`, the VM has not arrived or nobody has said that it stays. */
      readonly kept: boolean;
    }
  /** A definition that is faulty but says whose it is. */
  | { readonly kind: 'faulty'; readonly dir: VmDir; readonly name: string; readonly fault: string }
  /** Something of QEMU's or ours, and nobody can tell whose. */
  | { readonly kind: 'unreadable'; readonly dir: VmDir; readonly fault: string };

export type VmEntry = Extract<Entry, { kind: 'vm' }>;

/** Throws `hostUnreachable` when the directory itself cannot be read: that a host is empty must have been seen. */
export function scan(runDir: string): Entry[] {
  let names: string[];
  try {
    names = readdirSync(runDir);
  } catch (error) {
    const code = errorCode(error);
    const remedy = code === 'ENOENT' ? `make it (mkdir -p ${runDir}) if the host has no VMs` : 'see its rights';
    throw new HostevacError('hostUnreachable', `runDir ${runDir} cannot be read (${code}); ${remedy}`, {
      cause: error,
    });
  }
  return names.sort().flatMap((name) => entryOf(vmDir(join(runDir, name))));
}

/** The entry of that name. Throws `hostUnreachable` when two directories say they are it: neither is believed. */
export function find(runDir: string, vm: string): Exclude<Entry, { kind: 'unreadable' }> | undefined {
  const found = scan(runDir).flatMap((entry) => (entry.kind !== 'unreadable' && nameOf(entry) === vm ? [entry] : []));
  const [first, second] = found;
  if (first !== undefined && second !== undefined) {
    throw new HostevacError('hostUnreachable', sameName(vm, [first.dir, second.dir]));
  }
  return first;
}

export function nameOf(entry: Exclude<Entry, { kind: 'unreadable' }>): string {
  return entry.kind === 'vm' ? entry.definition.name : entry.name;
}

export function sameName(vm: string, dirs: readonly VmDir[]): string {
  return `${dirs.map(({ path }) => path).join(' and ')} both define ${vm}; rename one of the VMs or remove its directory`;
}

function entryOf(dir: VmDir): Entry[] {
  try {
    if (!isDirectory(dir.path)) return [];
  } catch (error) {
    return [{ kind: 'unreadable', dir, fault: reasonOf(error).message }];
  }
  const kept = existsSync(dir.definition);
  const path = kept ? dir.definition : dir.incoming;
  try {
    const definition = readDefinition(path);
    if (definition !== undefined) return [{ kind: 'vm', dir, definition, kept }];
  } catch (error) {
    const fault = reasonOf(error).message;
    const name = nameIn(path);
    return [name === undefined ? { kind: 'unreadable', dir, fault } : { kind: 'faulty', dir, name, fault }];
  }
  const traces = [dir.monitor, dir.spare, dir.pid].filter((file) => existsSync(file));
  return traces.length === 0 ? [] : [{ kind: 'unreadable', dir, fault: `${dir.path} has no vm.json` }];
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    // Removed since it was listed, or a link to nowhere.
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}
