/** Asks QEMU's and libvirt's programs what they are. Starts no guest: a QEMU without a machine answers and ends. */
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import { featuresOf } from '../../hypervisors/qemu/features.ts';
import { scan } from '../../hypervisors/qemu/run-dir.ts';
import type { LibvirtFacts, QemuFacts } from '../judge/hypervisors.ts';
import { type RunOptions, runProgram } from './program.ts';

type Asking = Pick<RunOptions, 'env' | 'signal'>;

const QEMU_MS = 5_000;
const VIRSH_MS = 10_000;
const DEFAULT_BINARY = 'qemu-system-x86_64';

/** The binaries that its VMs name, or the default one. */
export function binariesOf(runDir: string): string[] {
  try {
    const named = scan(runDir).flatMap((entry) => (entry.kind === 'vm' ? [entry.definition.binary] : []));
    return named.length === 0 ? [DEFAULT_BINARY] : [...new Set(named)];
  } catch (error) {
    // The directory has a finding of its own.
    if (error instanceof HostevacError && error.code === 'hostUnreachable') return [DEFAULT_BINARY];
    throw error;
  }
}

export async function askQemu(binary: string, asking: Asking): Promise<QemuFacts> {
  const { stdout, complaint } = await runProgram(binary, ['--version'], { ...asking, timeoutMs: QEMU_MS });
  const version = versionIn(/version (\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1]);
  if (version === null) {
    const why = complaint === '' ? 'does not say its version' : complaint;
    return { binary, version: null, why, kvm: false, refusal: null, degradations: [] };
  }
  const { kvm, capabilities } = await askMonitor(binary, asking);
  return { binary, version: version.text, why: '', kvm, ...judgedBy(version, kvm, capabilities) };
}

/** What a QEMU without a machine says on its monitor; `/dev/kvm` alone says too little, for KVM may still not work there. */
async function askMonitor(
  binary: string,
  asking: Asking,
): Promise<{ kvm: boolean; capabilities: ReadonlySet<string> }> {
  const without = ['-machine', 'none', '-nodefaults', '-display', 'none', '-accel', 'kvm', '-accel', 'tcg'];
  const words = ['qmp_capabilities', 'query-kvm', 'query-migrate-capabilities', 'quit'];
  const { stdout } = await runProgram(binary, [...without, '-qmp', 'stdio'], {
    ...asking,
    timeoutMs: QEMU_MS,
    input: words.map((execute) => `${JSON.stringify({ execute })}\n`).join(''),
  });
  const answers = stdout.split('\n').map((line) => answerSchema.safeParse(parsed(line)).data?.return);
  const listed = answers.find((answer) => Array.isArray(answer));
  return {
    kvm: answers.some((answer) => answer !== undefined && !Array.isArray(answer) && answer.enabled === true),
    // One that does not tell is judged by its release.
    capabilities: Array.isArray(listed) ? new Set(listed.map(({ capability }) => capability)) : ALL_OF_THE_RELEASE,
  };
}

const answerSchema = z.object({
  return: z.union([z.array(z.object({ capability: z.string() })), z.object({ enabled: z.boolean().optional() })]),
});

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // What QEMU warns of stands between its answers.
    return null;
  }
}

function judgedBy(
  version: Version,
  kvm: boolean,
  capabilities: ReadonlySet<string>,
): Pick<QemuFacts, 'refusal' | 'degradations'> {
  const { refusal, degradations } = featuresOf({ version, kvm, capabilities });
  return { refusal, degradations };
}

/** Says of every capability that it is there: then the release alone decides. */
const ALL_OF_THE_RELEASE: ReadonlySet<string> = new (class extends Set<string> {
  override has(): boolean {
    return true;
  }
})();

interface Version {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
  readonly text: string;
}

function versionIn(text: string | undefined): Version | null {
  if (text === undefined) return null;
  const [major = 0, minor = 0, micro = 0] = text.split('.').map(Number);
  return { major, minor, micro, text };
}

/** The version of virsh; null with why there is none. */
export async function askVirsh(asking: Asking): Promise<{ version: string | null; why: string | null }> {
  const { code, stdout, complaint } = await runProgram('virsh', ['--version'], { ...asking, timeoutMs: QEMU_MS });
  const version = /^(\d+\.\d+\.\d+)/m.exec(stdout)?.[1] ?? null;
  return { version, why: code === 0 ? null : complaint };
}

export interface LibvirtAnswer {
  readonly facts: LibvirtFacts;
  /** What the machine below it has; null: it does not say. */
  readonly machine: { readonly memory: number; readonly cpus: number } | null;
}

export async function askLibvirt(uri: string, networkNamespace: string | null, asking: Asking): Promise<LibvirtAnswer> {
  const options = { ...asking, networkNamespace, timeoutMs: VIRSH_MS };
  const virsh = (...args: string[]) => runProgram('virsh', ['-c', uri, ...args], options);
  const said = await virsh('version', '--daemon');
  const nothing = { uri, daemon: null, qemu: null, refusal: null, degradations: [] };
  if (said.code !== 0) return { facts: { ...nothing, failure: said.complaint }, machine: null };
  const daemon = /daemon: (\d[\d.]*)/.exec(said.stdout)?.[1] ?? null;
  const qemu = versionIn(/hypervisor: QEMU (\d[\d.]*)/.exec(said.stdout)?.[1]);
  const [node, capabilities] = await Promise.all([virsh('nodeinfo'), virsh('capabilities')]);
  const kvm = /<domain type=['"]kvm['"]/.test(capabilities.stdout);
  const judged = qemu === null ? { refusal: null, degradations: [] } : judgedBy(qemu, kvm, ALL_OF_THE_RELEASE);
  return {
    facts: { uri, daemon, qemu: qemu?.text ?? null, failure: null, ...judged },
    machine: machineIn(node.stdout),
  };
}

function machineIn(nodeinfo: string): LibvirtAnswer['machine'] {
  const cpus = /^CPU\(s\):\s+(\d+)/m.exec(nodeinfo)?.[1];
  const kib = /^Memory size:\s+(\d+) KiB/m.exec(nodeinfo)?.[1];
  return cpus === undefined || kib === undefined ? null : { cpus: Number(cpus), memory: 1_024 * Number(kib) };
}
