/** What a libvirt host of the lab is told: where its daemon is reached, and the daemon's two configuration files. Pure. */
import type { LabHost } from '../plan.ts';

/** Of a host's directory, and where its daemon sees them: all that libvirt writes outside of control groups. */
export const BOUND = [
  ['etc', '/etc/libvirt'],
  ['lib', '/var/lib/libvirt'],
  ['log', '/var/log/libvirt'],
  ['cache', '/var/cache/libvirt'],
  ['run', '/run/libvirt'],
] as const;

/** The name of a host's control groups: that of its network namespace, unique on the machine. */
export function groupOf({ name, networkNamespace }: LabHost): string {
  // The plan gives every libvirt host one.
  return networkNamespace ?? name;
}

/** For programs on this machine. */
export function libvirtUri({ runDir }: LabHost): string {
  // Spaces and the like; a slash may stay in a query.
  const socket = encodeURIComponent(`${runDir}/run/libvirt-sock`).replaceAll('%2F', '/');
  return `qemu+unix:///system?socket=${socket}`;
}

/** For the other hosts' daemons. */
export function libvirtPeerUri({ migrationAddress }: LabHost): string {
  return `qemu+tcp://${migrationAddress}/system`;
}

/**
 * No authentication: the sockets are in a directory that is root's alone, the address in a network that only the lab's
 * hosts are in. The machine's id would be the same for all hosts, and libvirt migrates no domain to its own host.
 */
export function daemonConfig(host: LabHost, hostUuid: string): string {
  return settings({
    listen_tls: 0,
    listen_tcp: 1,
    listen_addr: host.migrationAddress,
    auth_tcp: 'none',
    auth_unix_ro: 'none',
    auth_unix_rw: 'none',
    unix_sock_ro_perms: '0700',
    unix_sock_rw_perms: '0700',
    host_uuid: hostUuid,
    audit_level: 0,
    log_outputs: '3:file:/var/log/libvirt/libvirtd.log',
  });
}

/**
 * `namespaces`: a mount namespace of its own for each domain would need a /dev that containers do not have.
 * `dynamic_ownership`: one image is several domains', on several hosts. The host's name is known to nobody else, so the
 * other end of a migration is told the address.
 */
export function qemuConfig(host: LabHost): string {
  return settings({
    security_driver: 'none',
    user: 'root',
    group: 'root',
    dynamic_ownership: 0,
    cgroup_controllers: ['cpu', 'cpuacct'],
    namespaces: [],
    // virtlogd, which would write it otherwise, is not there.
    stdio_handler: 'file',
    migration_address: host.migrationAddress,
    migration_host: host.migrationAddress,
    migration_port_min: host.ports.first,
    migration_port_max: host.ports.last,
  });
}

type Setting = number | string | readonly string[];

/** libvirt's own syntax; none of the values here holds a quotation mark. */
function settings(all: Readonly<Record<string, Setting>>): string {
  const one = (value: Setting): string =>
    typeof value === 'number'
      ? String(value)
      : typeof value === 'string'
        ? `"${value}"`
        : `[${value.map(one).join(', ')}]`;
  return Object.entries(all)
    .map(([name, value]) => `${name} = ${one(value)}\n`)
    .join('');
}
