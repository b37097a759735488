/** A small, fast fleet as a file: three hosts, one of them with three VMs, one fleet minute in two seconds. */
export function smallFleet(name = 'small'): string {
  const host = (hostName: string, vms: string): string => `
  - name: ${hostName}
    driver: simulated
    migrationAddress: 192.0.2.1
    egress: 1GiB/s
    ingress: 1GiB/s
    cpus: 16
    memory: 64GiB
    simulated: { vms: [${vms}] }`;
  const vm = (vmName: string): string =>
    `{ name: ${vmName}, memory: 8GiB, cpus: 2, dirtyRate: 20MiB/s, workingSet: 256MiB, cpuUse: 0.3 }`;
  return `name: ${name}
hosts:${host('node-a', [vm('db-1'), vm('web-1'), vm('web-2')].join(', '))}${host('node-b', '')}${host('node-c', vm('mail-1'))}
simulation: { speed: 20 }
`;
}

/** Five faults, each of another kind. */
export const FAULTY_FLEET = `name: small
hosts:
  - name: node-a
    driver: simulated
    migrationAddress: 192.0.2.1
    egress: fast
    ingress: 1GiB/s
    cpus: 0
    memry: 64GiB
    simulated: { vms: [] }
  - name: node-a
    driver: simulated
    migrationAddress: 192.0.2.2
    egress: 1GiB/s
    ingress: 1GiB/s
    cpus: 16
    memory: 64GiB
    simulated:
      vms:
        - { name: db-1, memory: 8GiB, cpus: 2, dirtyRate: 20MiB/s, workingSet: 256MiB, cpuUse: 1.5 }
`;
