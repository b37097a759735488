/** What runs the VMs of the hosts: QEMU and its run directories, libvirtd; and whether the hosts have what the fleet file says. */
import { cpus, totalmem } from 'node:os';
import type { Finding } from './finding.ts';
import { judgeLibvirt, judgeQemu, judgeVirsh, type QemuFacts } from './judge/hypervisors.ts';
import { judgeDirectory, judgeSize } from './judge/machine.ts';
import { lookAtDirectory } from './probe/directory.ts';
import { askLibvirt, askQemu, askVirsh, binariesOf } from './probe/hypervisors.ts';
import { type Examined, mapSome, namespaceOf, type RealHost, realHosts } from './surroundings.ts';

type QemuHost = Extract<RealHost, { driver: 'qemu' }>;
type LibvirtHost = Extract<RealHost, { driver: 'libvirt' }>;

export async function examineQemu({ fleet, hosts, env, signal, progress }: Examined): Promise<Finding[]> {
  const here = hosts.filter((host): host is QemuHost => host.driver === 'qemu');
  const all = realHosts(fleet).filter(({ driver }) => driver === 'qemu');
  const asked = new Map<string, Promise<QemuFacts>>();
  const ask = (binary: string): Promise<QemuFacts> => {
    const answer = asked.get(binary) ?? askQemu(binary, { env, signal });
    asked.set(binary, answer);
    return answer;
  };
  const machine = { memory: totalmem(), cpus: cpus().length };
  return (
    await mapSome(here, { title: 'QEMU', signal, progress }, async (host) => [
      judgeDirectory('qemu.runDir', host.name, 'runDir in the fleet file', lookAtDirectory(host.qemu.runDir), null),
      ...(await Promise.all(binariesOf(host.qemu.runDir).map(ask))).map((facts) => judgeQemu(host.name, facts)),
      judgeSize(
        host,
        machine,
        all.filter(({ name }) => name !== host.name),
      ),
    ])
  ).flat();
}

export async function examineLibvirt({ hosts, env, signal, progress }: Examined): Promise<Finding[]> {
  const ours = hosts.filter((host): host is LibvirtHost => host.driver === 'libvirt');
  if (ours.length === 0) return [];
  const { version, why } = await askVirsh({ env, signal });
  const virsh = judgeVirsh(version, why);
  if (virsh.verdict === 'fault') return [virsh];
  const found = await mapSome(ours, { title: 'libvirt', signal, progress }, async (host) => {
    const { facts, machine } = await askLibvirt(host.libvirt.uri, namespaceOf(host), { env, signal });
    return [judgeLibvirt(host.name, facts), ...(machine === null ? [] : [judgeSize(host, machine, [])])];
  });
  return [virsh, ...found.flat()];
}
