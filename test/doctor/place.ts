/** A place to be examined: a fleet file, directories, programs in PATH, a Redis; and the doctor as a real process there. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Report, reportSchema, type Verdict } from '../../src/doctor/finding.ts';
import { inPath } from '../../src/runtime/in-path.ts';
import { Command, userEnv } from '../cli/spawn.ts';

export interface Examination {
  readonly code: number | null;
  readonly report: Report;
  readonly stderr: string;
}

export class DoctorPlace {
  readonly directory = mkdtempSync(join(tmpdir(), 'hostevac-doctor-test-'));
  readonly stateDir = join(this.directory, 'state');
  readonly fleetFile = join(this.directory, 'fleet.yaml');
  readonly commands: Command[] = [];

  constructor() {
    // Others than its owner are to look at it, too.
    chmodSync(this.directory, 0o755);
    mkdirSync(this.stateDir, { mode: 0o700 });
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  runDir(name: string): string {
    const path = this.path(name);
    mkdirSync(path);
    return path;
  }

  fleet(text: string): void {
    writeFileSync(this.fleetFile, text);
  }

  /** Two hosts of bare QEMU that are as they should be. */
  healthyFleet(): void {
    const [a, b] = [this.runDir('a'), this.runDir('b')];
    this.fleet(
      fleetText([
        qemuHost('a', { runDir: a, ports: '53152-53167' }),
        qemuHost('b', { runDir: b, ports: '53168-53183' }),
      ]),
    );
  }

  /** A PATH with these programs of the machine only, and with scripts of the test's. */
  bin(programs: readonly string[], scripts: Readonly<Record<string, string>> = {}): string {
    const bin = mkdtempSync(join(this.directory, 'bin-'));
    chmodSync(bin, 0o755);
    for (const program of programs) {
      const found = inPath(program, process.env);
      if (found !== undefined) symlinkSync(found, join(bin, program));
    }
    for (const [name, text] of Object.entries(scripts)) writeFileSync(join(bin, name), text, { mode: 0o755 });
    return bin;
  }

  env(over: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
    return userEnv(this.stateDir, { TMPDIR: tmpdir(), HOSTEVAC_FLEET: this.fleetFile, ...over });
  }

  command(args: readonly string[], env: NodeJS.ProcessEnv = {}, within: readonly string[] = []): Command {
    const command = new Command(args, { env: this.env(env), cwd: this.directory, within });
    this.commands.push(command);
    return command;
  }

  async doctor(
    args: readonly string[] = [],
    { env = {}, within = [] }: { env?: NodeJS.ProcessEnv; within?: readonly string[] } = {},
  ): Promise<Examination> {
    const { code, stdout, stderr } = await this.command(['doctor', ...args, '-o', 'json'], env, within).ended;
    if (stdout === '') throw new Error(`doctor said nothing (${code}): ${stderr}`);
    return { code, report: reportSchema.parse(JSON.parse(stdout)), stderr };
  }

  async close(): Promise<void> {
    await Promise.all(this.commands.map((command) => command.kill()));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** `check of subject: verdict`, without those that are right. */
export function wrong({ findings }: Report): string[] {
  return findings
    .filter(({ verdict }) => verdict === 'fault' || verdict === 'warning')
    .map(({ id, subject, verdict }) => `${id} of ${subject}: ${verdict}`);
}

/** The finding of a check, where there is exactly one. */
export function found({ findings }: Report, id: string, subject?: string): Report['findings'][number] {
  const all = findings.filter((finding) => finding.id === id && (subject === undefined || finding.subject === subject));
  const [only] = all;
  if (only === undefined || all.length > 1)
    throw new Error(`${all.length} findings of ${id}: ${JSON.stringify(findings)}`);
  return only;
}

export function verdictOf(report: Report, id: string, subject?: string): Verdict {
  return found(report, id, subject).verdict;
}

export function qemuHost(
  name: string,
  given: {
    readonly runDir: string;
    readonly ports?: string;
    readonly address?: string;
    readonly memory?: string;
    readonly namespace?: string;
    readonly egress?: string;
  },
): string {
  const {
    runDir,
    ports = '53152-53215',
    address = '127.0.0.1',
    memory = '256MiB',
    namespace,
    egress = '1MiB/s',
  } = given;
  const inside = namespace === undefined ? '' : `, networkNamespace: ${namespace}`;
  return `{ name: ${name}, driver: qemu, qemu: { runDir: ${runDir}, ports: ${ports}${inside} }, migrationAddress: "${address}", egress: ${egress}, ingress: ${egress}, cpus: 1, memory: ${memory} }`;
}

export function libvirtHost(name: string, uri: string, address: string): string {
  return `{ name: ${name}, driver: libvirt, libvirt: { uri: "${uri}" }, migrationAddress: "${address}", egress: 1MiB/s, ingress: 1MiB/s, cpus: 1, memory: 256MiB }`;
}

export function fleetText(hosts: readonly string[], name = 'examined'): string {
  return `name: ${name}\nhosts:\n${hosts.map((host) => `  - ${host}\n`).join('')}`;
}
