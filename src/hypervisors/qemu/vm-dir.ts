/**
 * A VM's directory under its host's run directory: which files are in it, how it is named, and how it is removed. What
 * the definition in it says is `vm-file.ts`'s.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { HostevacError } from '../../domain/errors.ts';
import { encodeName } from '../../domain/names.ts';
import { errorCode, syncDirectory } from './durable-file.ts';

/** In the order in which they are removed: without a definition the rest is nobody's VM. */
const FILES = {
  /** The VM belongs here: a reboot may start it. */
  definition: 'vm.json',
  /** Where the VM may arrive; no definition as long as it has not. */
  incoming: 'incoming.json',
  monitor: 'qmp.sock',
  spare: 'spare.sock',
  pid: 'qemu.pid',
  log: 'qemu.log',
  token: 'token',
  /** The last migration out of here that we started. */
  migration: 'migration.json',
} as const;

export type VmDir = { readonly path: string } & { readonly [File in keyof typeof FILES]: string };

export function vmDir(path: string): VmDir {
  return {
    path,
    definition: join(path, FILES.definition),
    incoming: join(path, FILES.incoming),
    monitor: join(path, FILES.monitor),
    spare: join(path, FILES.spare),
    pid: join(path, FILES.pid),
    log: join(path, FILES.log),
    token: join(path, FILES.token),
    migration: join(path, FILES.migration),
  };
}

const LONGEST_NAME = 24;
/** `sun_path` has 108 bytes with its closing zero (unix(7)). */
const LONGEST_SOCKET_PATH = 107;

/**
 * Names that the directory of a VM may have, best first. VM names may be anything printable up to 255 bytes: as it is
 * where it is short and safe, and the beginning of it with a hash, so that no name leaves the run directory or looks like
 * an option.
 */
export function dirNamesFor(vm: string): string[] {
  const hash = createHash('sha256').update(vm).digest('hex').slice(0, 12);
  const readable = vm.replaceAll(/[^A-Za-z0-9]/g, '').slice(0, LONGEST_NAME - hash.length - 1);
  const hashed = readable === '' ? hash : `${readable}.${hash}`;
  const encoded = encodeName(vm);
  const plain = encoded.length <= LONGEST_NAME && /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(encoded);
  return plain ? [encoded, hashed] : [hashed];
}

/**
 * The first of those that no definition stands in: a directory may be named after one VM and hold another. Throws
 * `hypervisorRefused` when there is none, or when its sockets' paths would be too long.
 */
export function newVmDir(runDir: string, vm: string): VmDir {
  const dirs = dirNamesFor(vm).map((name) => vmDir(join(runDir, name)));
  const dir = dirs.find(({ definition, incoming }) => !existsSync(definition) && !existsSync(incoming));
  if (dir === undefined) {
    const paths = dirs.map(({ path }) => path).join(' and ');
    throw new HostevacError('hypervisorRefused', `${paths} hold other VMs than ${vm}; rename the directory`);
  }
  const longest = Buffer.byteLength(dir.spare);
  if (longest > LONGEST_SOCKET_PATH) {
    throw new HostevacError(
      'hypervisorRefused',
      `${dir.spare} has ${longest} bytes and a socket's path may have ${LONGEST_SOCKET_PATH}; give the host a shorter runDir`,
    );
  }
  return dir;
}

/** Removes what is ours, the definition first, and the directory if nothing else is in it. */
export function removeVmDir(dir: VmDir, log: Logger): void {
  for (const file of Object.values(FILES)) {
    rmSync(join(dir.path, file), { force: true });
    if (file === FILES.incoming) syncDirectory(dir.path);
  }
  try {
    rmdirSync(dir.path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return;
    if (errorCode(error) !== 'ENOTEMPTY' && errorCode(error) !== 'EEXIST') throw error;
    log.warn({ dir: dir.path, files: readdirSync(dir.path) }, 'the VM has gone; files that are not ours are kept');
  }
}
