/** A lab of libvirt hosts, and eyes on its domains from outside: virsh, the control groups, the guests' own memory. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { XMLParser } from 'fast-xml-parser';
import { checkMemory, type MemoryReport, readState } from '../../src/lab/guest/inspect.ts';
import { groupOf, libvirtUri } from '../../src/lab/libvirt/config.ts';
import { daemonsOf, startDaemonAgain } from '../../src/lab/libvirt/daemon.ts';
import type { DomainOptions } from '../../src/lab/libvirt/domains.ts';
import { monitorOf, virsh } from '../../src/lab/libvirt/virsh.ts';
import type { LabManifest } from '../../src/lab/manifest.ts';
import type { LabHost, LabOptions } from '../../src/lab/plan.ts';
import { until } from '../support/condition.ts';
import { LabPlace } from './place.ts';

const CPU = '/sys/fs/cgroup/cpu';

export class LibvirtPlace extends LabPlace {
  libvirtLab(
    options: Pick<LabOptions, 'profiles'> & Partial<LabOptions> & { readonly domains?: DomainOptions },
  ): Promise<LabManifest> {
    return this.lab({ hosts: 2, network: true, ...options, driver: 'libvirt' });
  }

  host(name: string): LabHost {
    const found = this.manifest.hosts.find((host) => host.name === name);
    if (found === undefined) throw new Error(`the lab has no ${name}`);
    return found;
  }

  virsh(host: string, ...args: string[]): Promise<string> {
    return virsh(libvirtUri(this.host(host)), args);
  }

  /** Every domain that any of the hosts has, whatever its state: `lab-b hot-1 running`. */
  async domains(): Promise<string[]> {
    const listed = await Promise.all(
      this.manifest.hosts.map(async ({ name }) => {
        const names = (await this.virsh(name, 'list', '--all', '--name')).split('\n').filter((line) => line !== '');
        return Promise.all(
          names.map(async (vm) => `${name} ${vm} ${(await this.virsh(name, 'domstate', '--domain', vm)).trim()}`),
        );
      }),
    );
    return listed.flat().sort();
  }

  /** What is the domain's own, as libvirt has it while it runs: not its id, nor what this host has called its parts. */
  async definition(host: string, vm: string): Promise<unknown> {
    const text = await this.virsh(host, 'dumpxml', '--domain', vm);
    const parser = new XMLParser({ ignoreAttributes: false, attributeNamePrefix: '@', parseAttributeValue: false });
    return withoutHostsOwn(parser.parse(text));
  }

  /** Reads all of a guest's memory; stops it for that. */
  memoryOf(host: string, vm: string): Promise<MemoryReport> {
    return checkMemory(this.#monitor(host, vm), this.home);
  }

  async writesOf(host: string, vm: string): Promise<number> {
    return (await readState(this.#monitor(host, vm))).progress;
  }

  async writesOn(host: string, vm: string): Promise<void> {
    const before = await this.writesOf(host, vm);
    await until(async () => (await this.writesOf(host, vm)) > before, 10_000, `${vm} writes on at ${host}`);
  }

  #monitor(host: string, vm: string) {
    return monitorOf(libvirtUri(this.host(host)), vm);
  }

  /** `quota/period` of each control group below a host's that belongs to a vCPU, by the domain's name and vCPU. */
  vcpuQuotas(host: string): ReadonlyMap<string, string> {
    const machine = join(CPU, groupOf(this.host(host)), 'machine');
    if (!existsSync(machine)) return new Map();
    const quotas = readdirSync(machine).flatMap((domain) => {
      const name = /^qemu-\d+-(.*)\.libvirt-qemu$/.exec(domain)?.[1];
      if (name === undefined) return [];
      return list(join(machine, domain))
        .filter((group) => group.startsWith('vcpu'))
        .flatMap((group): [string, string][] => {
          const read = (file: string): string => readFileSync(join(machine, domain, group, file), 'utf8').trim();
          try {
            return [[`${name} ${group}`, `${read('cpu.cfs_quota_us')}/${read('cpu.cfs_period_us')}`]];
          } catch {
            // Its domain has ended since it was listed.
            return [];
          }
        });
    });
    return new Map(quotas);
  }

  /** As `kill -9` would end it, while its domains run on. */
  killDaemon(host: string): void {
    process.kill(this.#daemonOf(host), 'SIGKILL');
  }

  #daemonOf(host: string): number {
    const { runDir } = this.host(host);
    const pid = Number(readFileSync(join(runDir, 'run', 'libvirtd.pid'), 'utf8'));
    const { place, id } = this.manifest;
    if (!daemonsOf(place, id).some((daemon) => daemon.pid === pid))
      throw new Error(`no libvirtd of ${host} has pid ${pid}`);
    return pid;
  }

  /** As `systemctl stop` would: until it has gone. */
  async endDaemon(host: string): Promise<void> {
    const pid = this.#daemonOf(host);
    process.kill(pid, 'SIGTERM');
    const { place, id } = this.manifest;
    await until(
      () => !daemonsOf(place, id).some((daemon) => daemon.pid === pid),
      30_000,
      `the end of ${host}'s libvirtd`,
    );
  }

  async startDaemon(host: string): Promise<void> {
    await startDaemonAgain(this.host(host), process.env['PATH'], new AbortController().signal);
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

const OWN_OF_HOSTS: ReadonlySet<string> = new Set(['@id', '@index', 'seclabel', 'alias', '@portid']);

function order(value: unknown): string {
  return JSON.stringify(value);
}

function withoutHostsOwn(value: unknown): unknown {
  // libvirt writes devices of a kind in the order in which it came by them.
  if (Array.isArray(value))
    return value.map(withoutHostsOwn).sort((one, other) => order(one).localeCompare(order(other)));
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(([name]) => !OWN_OF_HOSTS.has(name));
  return Object.fromEntries(kept.map(([name, inner]) => [name, withoutHostsOwn(inner)]));
}
