/** What is said of names, ports and the measured bandwidth between hosts. Pure. */
import { formatRate } from '../../domain/units.ts';
import { type CheckId, type Finding, fault, notChecked, ok } from '../finding.ts';

/** `addresses` null: `why` it is not resolved. */
export function judgeName(host: string, name: string, addresses: readonly string[] | null, why: string): Finding {
  if (addresses !== null && addresses.length > 0) {
    return ok(
      'network.name',
      host,
      name === addresses[0] ? `${name} is an address` : `${name} is ${addresses.join(', ')}`,
    );
  }
  return fault(
    'network.name',
    host,
    `${name} is not resolved: ${why}`,
    `correct it in the fleet file, or make it known: DNS, or /etc/hosts on every machine of the fleet`,
  );
}

/** How a try to connect ended: `connected`, or the error's code. */
export type Connecting = 'connected' | (string & {});

export interface PortFacts {
  readonly id: Extract<CheckId, 'network.port' | 'libvirt.peer'>;
  /** `a -> b`, or the host where it is tried from here. */
  readonly subject: string;
  readonly address: string;
  readonly port: number;
  /** Somebody of ours, or libvirtd, should be listening; false: a refusal shows that the way is open. */
  readonly expected: boolean;
  readonly outcome: Connecting;
}

export function judgePort({ id, subject, address, port, expected, outcome }: PortFacts): Finding {
  const where = `${address} port ${port}`;
  if (outcome === 'connected') return ok(id, subject, `${where} takes connections`);
  if (outcome === 'ECONNREFUSED') {
    if (!expected) return ok(id, subject, `${where} is reached (nobody listens there between migrations)`);
    return fault(
      id,
      subject,
      `${where} refuses connections`,
      id === 'libvirt.peer'
        ? 'let libvirtd listen there (libvirtd-tls.socket, or listen_tcp with --listen), or correct peerUri in the fleet file'
        : 'a firewall refuses it: open the ports of qemu.ports in the fleet file between all hosts',
    );
  }
  const way = `see routes and firewalls between the two: ${address} must be reached on ${
    id === 'libvirt.peer' ? `port ${port}` : 'the migration ports (49152-49215 unless the fleet file says others)'
  }`;
  return fault(id, subject, `${where} cannot be reached (${outcome})`, way);
}

/** A listener of ours could not be opened at the destination. */
export function judgeListening(subject: string, address: string, ports: string, code: string): Finding {
  if (code === 'EADDRINUSE') {
    return fault(
      'network.port',
      subject,
      `all ports ${ports} of ${address} are in use: no migration can arrive`,
      'end what holds them (ss -tlnp), or give the host other ports in the fleet file',
    );
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return fault(
      'network.port',
      subject,
      `${address} is not an address of ${subject.split(' -> ').at(-1)} (${code})`,
      'correct migrationAddress (and networkNamespace) in the fleet file, or bring its interface up',
    );
  }
  return fault(
    'network.port',
    subject,
    `nobody can listen on ${address} (${code})`,
    'see the network of the host, and its networkNamespace in the fleet file',
  );
}

export interface BandwidthFacts {
  readonly subject: string;
  /** null: not measured, with why. */
  readonly bytesPerSec: number | null;
  readonly why: string;
  /** Of the source's egress and the destination's ingress, the smaller. */
  readonly promised: number;
  /** Most of a core that one of the two ends used: near 1, the measurement itself was the limit. */
  readonly busiestEnd: number;
}

/** Headers, and what a stream of a few seconds scatters. */
const ENOUGH = 0.93;
const AT_ITS_LIMIT = 0.75;

export function judgeBandwidth({ subject, bytesPerSec, why, promised, busiestEnd }: BandwidthFacts): Finding {
  if (bytesPerSec === null) return notChecked('network.bandwidth', subject, why);
  const found = `${formatRate(bytesPerSec)} free, the fleet file promises ${formatRate(promised)}`;
  if (bytesPerSec >= ENOUGH * promised) return ok('network.bandwidth', subject, found);
  if (busiestEnd >= AT_ITS_LIMIT) {
    return notChecked(
      'network.bandwidth',
      subject,
      `${found}, but the measurement itself used all of a CPU: the network may carry more`,
      'measure with iperf3 while the machine is idle',
    );
  }
  return fault(
    'network.bandwidth',
    subject,
    found,
    'lower egress and ingress in the fleet file to what is there (predictions and admission rest on it), or find who uses the link: other traffic, a migration that runs, a slower switch port',
  );
}

export function judgeNoBandwidth(why: string): Finding {
  return notChecked('network.bandwidth', 'fleet', why, null);
}

/** More than one fault of one name is one fault. */
export function withoutRepeats(findings: readonly Finding[]): Finding[] {
  const seen = new Set<string>();
  return findings.filter((finding) => {
    const key = JSON.stringify([finding.id, finding.subject, finding.found]);
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}
