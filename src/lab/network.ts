/**
 * The lab's network: one namespace for each host, a rate-limited link from each into a bridge in a namespace of its own,
 * and nothing in the machine's own. And cutting a link as a broken switch would: no carrier lost, no reset, only silence.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { HostevacError } from '../domain/errors.ts';
import type { LabHost } from './plan.ts';

/** Interfaces inside the namespaces: a host's end, the bridge, and the bridge's ends, named after the host's index. */
const HOST_END = 'mig0';
const BRIDGE = 'br0';

/**
 * The link carries a tenth more than migrations may use: `egress` counts QEMU's bytes, the link headers and bursts, too.
 * (QEMU sends what a tenth of a second allows at once.)
 */
const LINK_SPARE = 1.1;
const BURST_BYTES = 512 * 1_024;
const QUEUE_MS = 100;

export interface LabNetwork {
  readonly id: string;
  /** With namespaces. */
  readonly hosts: readonly LabHost[];
}

export function switchNamespace(id: string): string {
  return `hevlab-${id}-sw`;
}

/** What is missing for a network on this machine; null: nothing. */
export async function networkFault(): Promise<string | null> {
  if (process.geteuid?.() !== 0) return 'network namespaces need root';
  for (const tool of ['ip', 'tc', 'nsenter']) {
    try {
      await run(tool, ['-V']);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return `${why}; install iproute2 and util-linux`;
    }
  }
  return null;
}

/** Throws `labUnfit` with the tool's words; what has been made by then is `removeNetwork`'s. */
export async function makeNetwork({ id, hosts }: LabNetwork, egressBytesPerSec: number): Promise<void> {
  const inSwitch = switchNamespace(id);
  const members = hosts.map((host, index) => ({
    host,
    namespace: namespaceOf(host),
    end: `p${index}`,
    mac: macOf(index),
  }));
  const rate = Math.round(egressBytesPerSec * LINK_SPARE);
  for (const namespace of [inSwitch, ...members.map((member) => member.namespace)]) {
    await run('ip', ['netns', 'add', namespace]);
  }
  await batch(inSwitch, [`link add ${BRIDGE} type bridge`, `link set ${BRIDGE} up`]);
  for (const { host, namespace, end, mac } of members) {
    const pair = ['link', 'add', HOST_END, 'address', mac, 'netns', namespace, 'type', 'veth'];
    await run('ip', [...pair, 'peer', 'name', end, 'netns', inSwitch]);
    await batch(inSwitch, [`link set ${end} master ${BRIDGE}`, `link set ${end} up`]);
    // Neighbours are known for good: a link that is cut must swallow packets, not fail at looking up an address.
    const neighbours = members
      .filter((other) => other.host !== host)
      .map((other) => `neigh replace ${other.host.migrationAddress} lladdr ${other.mac} dev ${HOST_END} nud permanent`);
    await batch(namespace, [
      'link set lo up',
      `addr add ${host.migrationAddress}/24 dev ${HOST_END}`,
      `link set ${HOST_END} up`,
      ...neighbours,
    ]);
    const bucket = ['tbf', 'rate', `${rate}bps`, 'burst', String(BURST_BYTES), 'latency', `${QUEUE_MS}ms`];
    await run('tc', ['-n', namespace, 'qdisc', 'replace', 'dev', HOST_END, 'root', ...bucket]);
  }
}

/** From now on every packet to or from the host is lost and nobody is told. */
export async function cutLink({ id, hosts }: LabNetwork, host: string): Promise<void> {
  await run('ip', ['-n', switchNamespace(id), 'link', 'set', endOf(hosts, host), 'nomaster']);
}

export async function healLink({ id, hosts }: LabNetwork, host: string): Promise<void> {
  await run('ip', ['-n', switchNamespace(id), 'link', 'set', endOf(hosts, host), 'master', BRIDGE]);
}

/** With the last process in them gone, namespaces take their links with them. Harmless when there are none. */
export async function removeNetwork(id: string): Promise<void> {
  for (const namespace of networkNamespacesOf(id)) await run('ip', ['netns', 'delete', namespace]);
}

export function networkNamespacesOf(id: string): string[] {
  try {
    return readdirSync('/run/netns').filter((name) => name.startsWith(`hevlab-${id}-`));
  } catch (error) {
    // Made with the first namespace.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}

function endOf(hosts: readonly LabHost[], name: string): string {
  const index = hosts.findIndex((host) => host.name === name);
  if (index < 0) throw new HostevacError('unknownHost', `the lab has no host ${name}`);
  return `p${index}`;
}

function namespaceOf(host: LabHost): string {
  if (host.networkNamespace !== null) return host.networkNamespace;
  throw new HostevacError('labUnfit', `${host.name} has no network namespace; start the lab with --network`);
}

/** Locally administered; the same in every lab, as no two share a bridge. */
function macOf(index: number): string {
  return `02:00:0a:d5:00:${(index + 1).toString(16).padStart(2, '0')}`;
}

/** Lines of `ip`, one after the other, in a namespace. */
function batch(namespace: string, lines: readonly string[]): Promise<void> {
  return run('ip', ['-n', namespace, '-batch', '-'], `${lines.join('\n')}\n`);
}

function run(program: string, args: readonly string[], input = ''): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'pipe'] });
    let words = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      words += text;
    });
    // It may have ended before it has read all: then its exit says why.
    child.stdin.on('error', () => undefined).end(input);
    child.once('error', (error) => reject(new HostevacError('labUnfit', `${program} cannot be run: ${error.message}`)));
    child.once('close', (code) => {
      if (code === 0) resolve();
      else
        reject(new HostevacError('labUnfit', `${program} ${args.join(' ')}: ${words.trim() || `exit code ${code}`}`));
    });
  });
}
