/** What is said of QEMU and libvirt, from what their programs tell. Pure; which release has what is src/hypervisors/qemu/features.ts. */
import { type Finding, fault, notChecked, ok, warning } from '../finding.ts';

export interface QemuFacts {
  readonly binary: string;
  /** null: it cannot be run, with why. */
  readonly version: string | null;
  readonly why: string;
  readonly kvm: boolean;
  /** Of src/hypervisors/qemu/features.ts. */
  readonly refusal: string | null;
  readonly degradations: readonly string[];
}

export function judgeQemu(host: string, facts: QemuFacts): Finding {
  const { binary, version, kvm, refusal, degradations } = facts;
  if (version === null) {
    return fault(
      'qemu.version',
      host,
      `${binary} ${facts.why}`,
      'install QEMU 9.0 or later (Debian: qemu-system-x86; on 12 from backports), or name its binary in vm.json',
    );
  }
  const how = kvm ? 'with KVM' : 'without KVM (TCG)';
  if (refusal !== null) {
    const [found = refusal, remedy = 'upgrade QEMU'] = refusal.split('; ');
    return fault('qemu.version', host, found, remedy);
  }
  if (degradations.length === 0) return ok('qemu.version', host, `${binary} ${version}, ${how}`);
  return warning('qemu.version', host, `${binary} ${version}, ${how}: ${degradations.join('; ')}`, 'upgrade QEMU');
}

/** `why`: of a virsh that cannot be run; null: it was. */
export function judgeVirsh(version: string | null, why: string | null): Finding {
  if (version !== null) return ok('libvirt.virsh', 'this machine', `virsh ${version}`);
  return fault(
    'libvirt.virsh',
    'this machine',
    `virsh ${why ?? 'does not say its version'}`,
    'install libvirt-clients (Debian), and see that it is in PATH of the worker',
  );
}

export interface LibvirtFacts {
  readonly uri: string;
  readonly daemon: string | null;
  readonly qemu: string | null;
  /** Its own words where it did not answer; null: it did. */
  readonly failure: string | null;
  readonly refusal: string | null;
  readonly degradations: readonly string[];
}

/** Of what `virsh` says; each with what is usually behind it. */
const LIBVIRT_REMEDIES: readonly (readonly [RegExp, string])[] = [
  [
    /certificate|TLS|gnutls/i,
    'see the certificates: CA, client and server, their names and dates (virt-pki-validate on both machines)',
  ],
  [
    /Permission denied|authentication (failed|unavailable)|polkit/i,
    'add the user that hostevac runs as to the group libvirt, or see auth_unix_rw in libvirtd.conf',
  ],
  [
    /No such file or directory|Failed to connect socket/i,
    'start it there: systemctl start libvirtd (or virtqemud); a socket of another path goes into the URI: ?socket=',
  ],
  [
    /Connection refused/i,
    'let it listen there: libvirtd --listen, or systemctl start libvirtd-tls.socket; and see its port',
  ],
  [
    /timed? ?out|No route to host|unreachable/i,
    'see that the machine runs, and that a firewall lets its port through (16514 for TLS, 16509 for TCP, 22 for SSH)',
  ],
  [/resolve|Name or service not known|address/i, 'see that the name of the host in the URI is resolved here'],
];

export function judgeLibvirt(host: string, facts: LibvirtFacts): Finding {
  const { uri, daemon, qemu, failure, refusal, degradations } = facts;
  if (failure !== null) {
    const remedy =
      LIBVIRT_REMEDIES.find(([words]) => words.test(failure))?.[1] ?? `try it by hand: virsh -c ${uri} version`;
    return fault('libvirt.daemon', host, `${uri} does not answer: ${failure}`, remedy);
  }
  const found = `${uri}: libvirtd ${daemon ?? '(no version)'}, QEMU ${qemu ?? '(no version)'}`;
  if (refusal !== null) {
    const [why = refusal, remedy = 'upgrade QEMU there'] = refusal.split('; ');
    return fault('libvirt.daemon', host, `${found}: ${why}`, remedy);
  }
  if (degradations.length > 0)
    return warning('libvirt.daemon', host, `${found}: ${degradations.join('; ')}`, 'upgrade QEMU there');
  if (daemon === null || qemu === null) return notChecked('libvirt.daemon', host, found, `see virsh -c ${uri} version`);
  return ok('libvirt.daemon', host, found);
}
