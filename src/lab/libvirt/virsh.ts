/**
 * The lab's words with a libvirt daemon: one `virsh` each, about 15 ms. And QEMU's monitor through it, so that a domain is
 * looked into as any other guest.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import type { Monitor } from '../guest/inspect.ts';

/** libvirt itself gives up waiting for a domain's lock after 30 s, and says so. */
const TIMEOUT_MS = 40_000;

interface VirshOptions {
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Its stdout. Throws `hostUnreachable` when the daemon does not answer, `hypervisorRefused` with its words, `labUnfit` where
 * there is no virsh, and what aborted the signal; what was asked for may then still be carried out.
 */
export async function virsh(uri: string, args: readonly string[], options: VirshOptions = {}): Promise<string> {
  const { timeoutMs = TIMEOUT_MS, signal } = options;
  signal?.throwIfAborted();
  const child = spawn('virsh', ['--quiet', '--connect', uri, ...args], {
    // A terminal's Ctrl-C is not for it: what lets a guest go on after a look must be said to the end.
    detached: true,
    env: environment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let late = false;
  const end = (): void => {
    child.kill('SIGKILL');
  };
  const timer = setTimeout(() => {
    late = true;
    end();
  }, timeoutMs);
  signal?.addEventListener('abort', end, { once: true });
  try {
    const [said, words, code] = await Promise.all([textOf(child.stdout), textOf(child.stderr), exitOf(child)]);
    signal?.throwIfAborted();
    if (code === 0) return said;
    throw fault(args, late ? `no answer in ${timeoutMs / 1_000} s` : words, late);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', end);
  }
}

async function textOf(stream: Readable): Promise<string> {
  let text = '';
  for await (const part of stream.setEncoding('utf8')) text += part;
  return text;
}

/** Null: a signal ended it. */
function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) =>
      reject(new HostevacError('labUnfit', `virsh cannot be run: ${error.message}; install libvirt-clients`)),
    );
    child.once('close', resolve);
  });
}

/** In a language that can be read again, and without the user's own default connection. */
function environment(): NodeJS.ProcessEnv {
  const { PATH, HOME } = process.env;
  return { PATH, HOME, LC_ALL: 'C' };
}

function fault(args: readonly string[], words: string, late: boolean): HostevacError {
  const away = late || /failed to connect to the hypervisor/.test(words);
  const told = words.trim().replaceAll(/\s*\n\s*/g, ' | ') || 'it said nothing';
  return new HostevacError(away ? 'hostUnreachable' : 'hypervisorRefused', `virsh ${args.join(' ')}: ${told}`);
}

/** For a lab that starts: what a daemon refuses, or does not answer, is a fault of the lab. */
export async function orUnfit<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (!(error instanceof HostevacError) || !['hypervisorRefused', 'hostUnreachable'].includes(error.code))
      throw error;
    throw new HostevacError('labUnfit', error.message, { cause: error });
  }
}

const errorSchema = z.looseObject({ error: z.looseObject({ class: z.string(), desc: z.string() }) });
const returnSchema = z.looseObject({ return: z.unknown() });

/** Waits, as every question to a domain, for what changes it; for one that is arriving until it has. */
export function monitorOf(uri: string, domain: string): Monitor {
  return {
    closed: false,
    execute: async (command, answer, args, options) => {
      const text = JSON.stringify({ execute: command, ...(args === undefined ? {} : { arguments: args }) });
      const timeoutMs = options?.timeoutMs ?? TIMEOUT_MS;
      const said = await virsh(uri, ['qemu-monitor-command', `--domain=${domain}`, `--cmd=${text}`], { timeoutMs });
      const parsed: unknown = JSON.parse(said);
      const failed = errorSchema.safeParse(parsed);
      if (failed.success) {
        const { class: kind, desc } = failed.data.error;
        throw new HostevacError('hypervisorRefused', `QEMU refused ${command}: ${desc} (${kind})`);
      }
      return answer.parse(returnSchema.parse(parsed).return);
    },
  };
}
