/** The network between hosts: names, ports, and (when asked for) what a stream really carries. */
import { peerUriOf } from '../domain/fleet.ts';
import { runsHere } from './examine-machine.ts';
import type { Finding } from './finding.ts';
import {
  judgeBandwidth,
  judgeListening,
  judgeName,
  judgeNoBandwidth,
  judgePort,
  withoutRepeats,
} from './judge/network.ts';
import { type LibvirtPlace, placeOf } from './libvirt-uri.ts';
import { measureBandwidth, openListener, type Range, resolveName, tryPort } from './probe/network.ts';
import { CONNECTIONS_AT_ONCE, type Examined, mapSome, namespaceOf, type RealHost, realHosts } from './surroundings.ts';

/** Of libvirt's qemu.conf (migration_port_min, migration_port_max), and of the fleet file's `ports` by default. */
const LIBVIRT_PORTS: Range = { first: 49_152, last: 49_215 };
/** All pairs up to so many hosts that can be reached from here; beyond, each to the next. */
const ALL_PAIRS = 8;

export async function examineNames({ hosts, signal, progress }: Examined): Promise<Finding[]> {
  const names = hosts.flatMap((host) => namesOf(host).map((name) => ({ host: host.name, name })));
  const asked = new Map<string, ReturnType<typeof resolveName>>();
  return mapSome(names, { title: 'names', signal, progress }, async ({ host, name }) => {
    const answer = asked.get(name) ?? resolveName(name);
    asked.set(name, answer);
    const { addresses, why } = await answer;
    return judgeName(host, name, addresses, why);
  });
}

function namesOf(host: RealHost): string[] {
  const uris = host.driver === 'libvirt' ? [host.libvirt.uri, peerUriOf(host)] : [];
  const places = uris.flatMap((uri) => placeOf(uri) ?? []);
  return [...new Set([host.migrationAddress, ...places.map((place) => place.host)])];
}

interface Pair {
  /** null: from this machine, for no other host of the fleet is here. */
  readonly from: RealHost | null;
  readonly to: RealHost;
}

export async function examinePorts(examined: Examined): Promise<Finding[]> {
  const { signal, progress } = examined;
  const pairs = pairsOf(examined);
  const far = pairs.filter(({ to }) => !runsHere(to));
  const pace = { title: 'ports', signal, progress };
  const found = [
    ...(await mapSome(far, { ...pace, atOnce: CONNECTIONS_AT_ONCE }, (pair) => tryPair(pair, examined))),
    // One after the other: two listeners of ours must not take a host's only port from each other.
    ...(await mapSome(
      pairs.filter(({ to }) => runsHere(to)),
      { ...pace, atOnce: 1 },
      (pair) => tryPair(pair, examined),
    )),
  ];
  return withoutRepeats(found.flat());
}

/** To each host from every place that another one is at, as far as that place is on this machine. */
function pairsOf({ fleet, hosts }: Examined): Pair[] {
  const all = realHosts(fleet);
  const here = all.filter(runsHere);
  const asked = (host: RealHost): boolean => hosts.some(({ name }) => name === host.name);
  const ring = here.length > ALL_PAIRS;
  return all.flatMap((to): Pair[] => {
    const before = here[(here.indexOf(to) + here.length - 1) % here.length];
    const others = ring && here.includes(to) && before !== undefined ? [before] : here;
    const places = new Set<string | null>();
    const from = others.filter((host) => {
      if (host.name === to.name || places.has(namespaceOf(host))) return false;
      places.add(namespaceOf(host));
      return true;
    });
    const pairs = from.length === 0 ? [{ from: null, to }] : from.map((host) => ({ from: host, to }));
    return pairs.filter((pair) => asked(to) || (pair.from !== null && asked(pair.from)));
  });
}

async function tryPair({ from, to }: Pair, { signal }: Examined): Promise<Finding[]> {
  const where = from === null ? null : namespaceOf(from);
  const subject = `${from?.name ?? 'here'} -> ${to.name}`;
  const peer = to.driver === 'libvirt' ? placeOf(peerUriOf(to)) : null;
  const peers = peer === null ? [] : [await tryPeer(subject, where, peer, signal)];
  return [...peers, await tryMigrationPort(subject, where, to, signal)];
}

async function tryPeer(subject: string, where: string | null, { host, port }: LibvirtPlace, signal: AbortSignal) {
  const outcome = await tryPort(where, host, port, signal);
  return judgePort({ id: 'libvirt.peer', subject, address: host, port, expected: true, outcome });
}

async function tryMigrationPort(
  subject: string,
  where: string | null,
  to: RealHost,
  signal: AbortSignal,
): Promise<Finding> {
  const address = to.migrationAddress;
  const ports = portsOf(to);
  if (!runsHere(to)) {
    const outcome = await tryPort(where, address, ports.first, signal);
    return judgePort({ id: 'network.port', subject, address, port: ports.first, expected: false, outcome });
  }
  const listener = await openListener(namespaceOf(to), address, ports, signal);
  if ('failure' in listener) {
    return judgeListening(subject, address, `${ports.first}-${ports.last}`, listener.failure);
  }
  try {
    const { port } = listener;
    const outcome = await tryPort(where, address, port, signal);
    return judgePort({ id: 'network.port', subject, address, port, expected: true, outcome });
  } finally {
    await listener.end.close();
  }
}

function portsOf(host: RealHost): Range {
  return host.driver === 'qemu' ? host.qemu.ports : LIBVIRT_PORTS;
}

/** Each host to the next one that is on this machine: egress and ingress of each are used once. */
export async function examineBandwidth({ fleet, hosts, signal, progress }: Examined): Promise<Finding[]> {
  const here = realHosts(fleet).filter(runsHere);
  if (here.length < 2) {
    return [
      judgeNoBandwidth(
        'measured between hosts of this machine only, and there are not two: use iperf3 between machines',
      ),
    ];
  }
  const findings: Finding[] = [];
  for (const [index, from] of here.entries()) {
    const to = here[(index + 1) % here.length];
    if (to === undefined || signal.aborted || !hosts.some(({ name }) => name === from.name)) continue;
    progress(`measuring ${from.name} -> ${to.name}`);
    findings.push(await measure(from, to, signal));
  }
  return findings;
}

async function measure(from: RealHost, to: RealHost, signal: AbortSignal): Promise<Finding> {
  const subject = `${from.name} -> ${to.name}`;
  const promised = Math.min(from.egress, to.ingress);
  const listener = await openListener(namespaceOf(to), to.migrationAddress, portsOf(to), signal);
  if ('failure' in listener) {
    const why = `no listener on ${to.migrationAddress} (${listener.failure})`;
    return judgeBandwidth({ subject, bytesPerSec: null, why, promised, busiestEnd: 0 });
  }
  try {
    const measured = await measureBandwidth(namespaceOf(from), listener, to.migrationAddress, signal);
    return judgeBandwidth({ subject, promised, ...measured });
  } finally {
    await listener.end.close();
  }
}
