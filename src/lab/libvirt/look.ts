/** What the lab's libvirt daemons say of their domains, running or only defined. */
import { HostevacError } from '../../domain/errors.ts';
import type { Copy, SilentHost } from '../copies.ts';
import type { LabHost } from '../plan.ts';
import { libvirtUri } from './config.ts';
import { monitorOf, virsh } from './virsh.ts';

export async function domainsOf(
  hosts: readonly LabHost[],
): Promise<{ copies: readonly Copy[]; silent: readonly SilentHost[] }> {
  const answers = await Promise.all(hosts.map(domainsOn));
  return {
    copies: answers.flatMap((answer) => ('fault' in answer ? [] : answer.copies)),
    silent: answers.flatMap((answer) => ('fault' in answer ? [answer] : [])),
  };
}

async function domainsOn(host: LabHost): Promise<{ copies: readonly Copy[] } | SilentHost> {
  const uri = libvirtUri(host);
  try {
    const names = (await virsh(uri, ['list', '--all', '--name'])).split('\n').filter((name) => name !== '');
    const copies = await Promise.all(names.map((name) => domain(host, name)));
    return { copies: copies.filter((copy) => copy !== null) };
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
    return { host: host.name, fault: error.message };
  }
}

/** Null: it has gone since it was listed. */
async function domain(host: LabHost, name: string): Promise<Copy | null> {
  const uri = libvirtUri(host);
  try {
    const words = (await virsh(uri, ['domstate', '--reason', `--domain=${name}`])).trim();
    const monitor = monitorOf(uri, name);
    return { guest: name, host: host.name, scratch: host.runDir, told: toldOf(words), ask: (work) => work(monitor) };
  } catch (error) {
    if (error instanceof HostevacError && /failed to get domain/.test(error.message)) return null;
    throw error;
  }
}

/**
 * From virsh's `state (reason)`. A domain that stands still for a migration may be the arriving one, which answers nothing
 * until its migration ends, and so does one in post-copy; a domain that is not active has no monitor. Null: it answers.
 */
export function toldOf(words: string): string | null {
  const [, state = words, reason = ''] = /^(.*?)(?: \((.*)\))?$/.exec(words) ?? [];
  if (state === 'running') return reason.startsWith('post-copy') ? 'running' : null;
  if (state === 'paused') return /^(migrating|post-copy)/.test(reason) ? `paused (${reason})` : null;
  return state;
}
