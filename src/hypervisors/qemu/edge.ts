/**
 * What the file system refuses, in the port's words. A caller goes by the code of an error: one of none would be tried
 * again for ever, with nobody told what to mend.
 */
import { HostevacError } from '../../domain/errors.ts';
import { errorCode } from './durable-file.ts';

/** For those who look: what is true there cannot be told. Throws `hostUnreachable`. */
export function looking<T>(work: () => Promise<T>): Promise<T> {
  return inWords('hostUnreachable', work);
}

/** For those who change something: it was not done, or not all of it. Throws `hypervisorRefused`. */
export function changing<T>(work: () => Promise<T>): Promise<T> {
  return inWords('hypervisorRefused', work);
}

async function inWords<T>(code: 'hostUnreachable' | 'hypervisorRefused', work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // A file that is not what it should be is no fault of the request.
    if (error instanceof HostevacError && error.code === 'badInput') {
      throw new HostevacError(code, error.message, { cause: error });
    }
    const system = systemCode(error);
    if (error instanceof HostevacError || !(error instanceof Error) || system === undefined) throw error;
    throw new HostevacError(code, `${error.message}; ${remedyFor(system)}`, { cause: error });
  }
}

/** Node has codes of its own (`ERR_…`), most of them for faults of ours; `rm` of a directory is none. */
function systemCode(error: unknown): string | undefined {
  const code = errorCode(error);
  if (code === 'ERR_FS_EISDIR') return 'EISDIR';
  return code?.startsWith('ERR_') === true ? undefined : code;
}

/** `message` of a system error names the path: `ENOSPC: no space left on device, open '/run/…'`. */
function remedyFor(system: string): string {
  switch (system) {
    case 'EACCES':
    case 'EPERM':
      return `user ${process.geteuid?.()} needs the right to do that: run as root or change the rights`;
    case 'ENOSPC':
    case 'EDQUOT':
      return 'make room there';
    case 'EROFS':
      return 'mount it writable or choose another runDir';
    case 'ENOTDIR':
      return 'a part of that path is no directory: remove what stands there';
    case 'EISDIR':
      return 'a directory stands where a file should be: remove it';
    case 'ELOOP':
      return 'a link there leads to itself: remove it';
    case 'EMFILE':
    case 'ENFILE':
      return 'too many files are open: raise the limit (ulimit -n)';
    case 'EIO':
      return 'the disk fails: see the kernel log';
    default:
      return 'see what is wrong with that path';
  }
}
