/** A lab guest as a libvirt domain. Pure. Source: libvirt's formatdomain. */
import { escapeXml } from '../../hypervisors/libvirt/xml.ts';

export interface DomainSpec {
  readonly name: string;
  readonly uuid: string;
  readonly memoryBytes: number;
  readonly preallocates: boolean;
  readonly vcpus: number;
  readonly accel: 'tcg' | 'kvm';
  /** Absolute, as is the image. */
  readonly emulator: string;
  readonly image: string;
  /** Further elements of `<devices>`, as XML: what makes a domain one that cannot be migrated, say. */
  readonly moreDevices: string;
}

/** A 1.44 MB floppy disk: the image must be as large as one for the firmware to boot from it. */
export const FLOPPY_BYTES = 1_474_560;

/**
 * A floppy disk, as a read-only hard disk is none that libvirt's `pc` machine boots from, and only a read-only disk is
 * safe to migrate without shared storage. A guest that breaks (a triple fault resets it) ends instead of starting anew.
 */
export function domainXml(spec: DomainSpec): string {
  return `<domain type='${spec.accel === 'kvm' ? 'kvm' : 'qemu'}'>
  <name>${escapeXml(spec.name)}</name>
  <uuid>${escapeXml(spec.uuid)}</uuid>
  <memory unit='KiB'>${spec.memoryBytes / 1_024}</memory>${spec.preallocates ? "\n  <memoryBacking><allocation mode='immediate'/></memoryBacking>" : ''}
  <vcpu>${spec.vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <boot dev='fd'/>
  </os>
  <features><acpi/></features>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>${escapeXml(spec.emulator)}</emulator>
    <disk type='file' device='floppy'>
      <driver name='qemu' type='raw'/>
      <source file='${escapeXml(spec.image)}'/>
      <target dev='fda' bus='fdc'/>
      <readonly/>
    </disk>
    <memballoon model='none'/>${spec.moreDevices === '' ? '' : `\n    ${spec.moreDevices}`}
  </devices>
</domain>
`;
}
