/**
 * Asking libvirtd through `virsh`, one short process for each question, without a shell. VMs are told by their uuid, so no
 * name ever stands on a command line, and several commands may go in one call (virsh has a parser of its own for those).
 * What an answer means is said elsewhere. Why virsh: docs/decisions/0036.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { HostevacError } from '../../domain/errors.ts';
import type { LibvirtHost } from './host.ts';

export const VIRSH = 'virsh';

/** libvirt itself gives up after 30 s what waits for a job of a domain; a daemon that is busy answers sooner. */
const ANSWER_MS = 10_000;
/** Seconds, and how many may go unanswered: a silent link is noticed before `ANSWER_MS`. */
const KEEPALIVE = ['-k', '3', '-K', '2'];
const MAX_BYTES = 64 * 2 ** 20;

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What libvirt's client library says when there is no daemon to ask, or none any more. */
const NO_DAEMON =
  /failed to connect|failed to get (?:connection|hypervisor)|cannot recv data|end of file while reading|client socket is closed|connection (?:refused|reset|closed|timed out)|no route to host|unable to connect|disconnected from|keepalive timeout|broken pipe|name or service not known|unable to resolve/i;
const NO_DOMAIN = /failed to get domain|domain not found|no domain with matching/i;

export interface Answer {
  readonly code: number;
  readonly out: string;
  /** Without virsh's `error: `. */
  readonly words: string;
}

/** As `domstate` and the like are told it. */
export function uuidWord(uuid: string): string {
  if (!UUID.test(uuid)) throw new HostevacError('internal', `${JSON.stringify(uuid)} is no uuid`);
  return uuid;
}

export function baseArguments(uri: string): string[] {
  return ['--quiet', ...KEEPALIVE, '--connect', uri];
}

/** virsh speaks English then, and finds its own settings nowhere but in its arguments. */
export function virshEnv(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: 'C', VIRSH_HISTSIZE: '0' };
}

/** Whatever it answers. Throws `hostUnreachable` where nobody did. */
export function ask(host: LibvirtHost, args: readonly string[], answerMs: number = ANSWER_MS): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { env: virshEnv(), timeout: answerMs, killSignal: 'SIGKILL', maxBuffer: MAX_BYTES } as const;
    execFile(VIRSH, [...baseArguments(host.uri), ...args], options, (error, out, err) => {
      const words = wordsOf(err);
      const { code } = error ?? { code: 0 };
      if (error !== null && typeof code !== 'number') return reject(unanswered(host, error, answerMs));
      if (NO_DAEMON.test(words)) return reject(unreachable(host, words));
      resolve({ code: typeof code === 'number' ? code : 1, out, words });
    });
  });
}

/** What it prints. Throws `hypervisorRefused` with libvirt's words. */
export async function told(host: LibvirtHost, args: readonly string[], answerMs?: number): Promise<string> {
  const answer = await ask(host, args, answerMs);
  if (answer.code !== 0) throw refused(host, answer.words);
  return answer.out;
}

/**
 * Several commands in one call, of fixed words and uuids only. What each printed; nothing where it failed, and then `words`
 * says why.
 */
export async function askAll(
  host: LibvirtHost,
  commands: readonly string[],
  answerMs?: number,
): Promise<{ readonly outs: readonly string[]; readonly words: string }> {
  const mark = `<<${randomBytes(9).toString('hex')}>>`;
  const { out, words } = await ask(host, [commands.join(`; echo ${mark}; `)], answerMs);
  const outs = out.split(mark);
  if (outs.length !== commands.length) throw unreachable(host, words || 'virsh ended before it had answered all');
  return { outs, words };
}

export function isNoDomain(words: string): boolean {
  return NO_DOMAIN.test(words);
}

export function refused(host: LibvirtHost, words: string): HostevacError {
  return new HostevacError('hypervisorRefused', `${host.name}: libvirt says: ${words || 'nothing'}`);
}

export function unreachable(host: LibvirtHost, words: string): HostevacError {
  return new HostevacError('hostUnreachable', `${host.name}: its libvirtd at ${host.uri} does not answer: ${words}`);
}

/** Lines without their prefix, the same once. */
export function wordsOf(err: string): string {
  const lines = err
    .split('\n')
    .map((line) => line.replace(/^error: /, '').trim())
    .filter((line) => line !== '');
  return [...new Set(lines)].join('; ');
}

function unanswered(host: LibvirtHost, error: NodeJS.ErrnoException | Error, answerMs: number): HostevacError {
  const code = 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') {
    return new HostevacError('hostUnreachable', `${VIRSH} is not in PATH; install it (libvirt-clients)`);
  }
  return unreachable(host, code === undefined || code === null ? `no answer in ${answerMs / 1_000} s` : error.message);
}
