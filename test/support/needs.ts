/**
 * What a test needs of the machine. Where it is not there the test is skipped, loudly; where HOSTEVAC_REQUIRE names it
 * (continuous integration names all), its absence is a failure.
 */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { describe, test } from 'vitest';

const NEEDS = {
  qemu: () => qemuFault(),
  root: () => (process.geteuid?.() === 0 ? null : 'not run as root'),
  /** A `cpu` controller in which we may make a group. */
  cgroup: () => cgroupFault(),
  netns: () => netnsFault(),
  /** The programs; what else a libvirt daemon of the lab needs is root's and `netns`'s. */
  libvirt: () =>
    found('libvirtd') && found('virsh')
      ? null
      : 'no libvirtd and virsh in PATH (packages libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients)',
  browser: () =>
    existsSync(browserProgram())
      ? null
      : `no Chromium at ${browserProgram()} (package chromium; HOSTEVAC_TEST_BROWSER names another)`,
  redis: () => (found('redis-server') || found('valkey-server') ? null : 'no redis-server in PATH'),
  promtool: () => (found('promtool') ? null : 'no promtool in PATH (package prometheus)'),
  /** Debian's cloud kernel, unpacked; see .ci/run. */
  kernel: () =>
    existsSync(process.env['HOSTEVAC_TEST_KERNEL'] ?? '/nowhere')
      ? null
      : 'HOSTEVAC_TEST_KERNEL does not name a kernel image (.ci/run unpacks one)',
} as const;
export type Need = keyof typeof NEEDS;

/** Not one that a test tool brings along: the system's. */
export function browserProgram(): string {
  return process.env['HOSTEVAC_TEST_BROWSER'] ?? '/usr/bin/chromium';
}

function found(program: string): boolean {
  return `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':').some((folder) => {
    try {
      accessSync(`${folder}/${program}`, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** QEMU before 9.0 loses dirty pages under TCG. */
function qemuFault(): string | null {
  if (!found('qemu-system-x86_64')) return 'no qemu-system-x86_64 in PATH';
  const text = execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' });
  const major = Number(/version (\d+)\./.exec(text)?.[1]);
  return major >= 9 ? null : `QEMU ${text.split('\n')[0]} is older than 9.0`;
}

function cgroupFault(): string | null {
  const v1 = '/sys/fs/cgroup/cpu';
  if (!existsSync(`${v1}/cpu.cfs_quota_us`) && !existsSync(`${v1}/cpu.shares`)) return `no cpu controller at ${v1}`;
  const probe = `${v1}/hostevac-probe-${process.pid}`;
  try {
    mkdirSync(probe);
    rmdirSync(probe);
    return null;
  } catch (error) {
    return `no group can be made in ${v1}: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function netnsFault(): string | null {
  if (process.geteuid?.() !== 0) return 'network namespaces need root';
  if (!found('ip') || !found('tc')) return 'no ip and tc in PATH (package iproute2)';
  const name = `hevprobe${process.pid}`;
  try {
    execFileSync('ip', ['netns', 'add', name], { stdio: 'pipe' });
    execFileSync('ip', ['netns', 'del', name], { stdio: 'pipe' });
    return null;
  } catch (error) {
    return `no network namespace can be made: ${error instanceof Error ? error.message : String(error)}`;
  }
}

const required = (process.env['HOSTEVAC_REQUIRE'] ?? '').split(',');

/** What is missing of `needs`; throws for what HOSTEVAC_REQUIRE names. */
export function missing(needs: readonly Need[]): string[] {
  const faults = needs.flatMap((need) => {
    const fault = NEEDS[need]();
    return fault === null ? [] : [{ need, fault }];
  });
  const mandatory = faults.filter(({ need }) => required.includes(need) || required.includes('all'));
  if (mandatory.length > 0) {
    throw new Error(`HOSTEVAC_REQUIRE: ${mandatory.map(({ need, fault }) => `${need}: ${fault}`).join('; ')}`);
  }
  return faults.map(({ need, fault }) => `${need}: ${fault}`);
}

/** A `describe` that is skipped, with a shout, on a machine that lacks what it needs. */
export function describeWith(needs: readonly Need[], name: string, body: () => void): void {
  const faults = missing(needs);
  if (faults.length === 0) {
    describe(name, body);
    return;
  }
  const shout = `SKIPPED, NOT TESTED: ${name} (${faults.join('; ')})`;
  console.warn(`\n*** ${shout} ***\n`);
  describe.skip(shout, () => test('is not run on this machine', () => undefined));
}
