/** Ways to empty a host: ours, and the rules of others, each with QEMU's auto-converge under it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { downtimeLimit } from '../../../src/convergence/downtime.ts';
import type { PolicyName } from '../../../src/domain/policy.ts';
import { profileNamed } from '../../../src/lab/profiles.ts';
import type { Stage } from '../contenders/contender.ts';
import { migratePair } from '../contenders/pair.ts';
import { type Moved, resultSchema } from './results.ts';
import { EGRESS, type Scene } from './scene.ts';

const MAX_STALL_MS = 300;
export const LIMIT_MS = 240_000;
const PROGRAM = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));

export interface Emptied {
  /** Every guest has moved. */
  readonly done: boolean;
  readonly notes: readonly string[];
  readonly moves: readonly Moved[];
}

export interface Rule {
  readonly name: string;
  readonly what: string;
  /** It is done by the product, which is to serve before it begins. */
  readonly isOurs: boolean;
  /** Returns when every migration has ended. */
  readonly empty: (scene: Scene, signal: AbortSignal) => Promise<Emptied>;
}

const others = (name: string, what: string, lanes: number, bandwidthBytesPerSec: number): Rule => ({
  name,
  what,
  isOurs: false,
  empty: (scene, signal) => inLanes(scene, lanes, bandwidthBytesPerSec, signal),
});

const ours = (name: string, policy: PolicyName): Rule => ({
  name,
  what: `\`hostevac evacuate\`, policy \`${policy}\``,
  isOurs: true,
  empty: (scene, signal) => evacuated(scene, policy, signal),
});

export const RULES: readonly Rule[] = [
  ours('ours', 'maintenance'),
  ours('emergency', 'emergency'),
  others('two', "two at a time with half the bandwidth each (oVirt's rule), auto-converge", 2, EGRESS / 2),
  others('one', "one at a time with all of it (Nova's), auto-converge", 1, EGRESS),
  others('four', "four at a time that share the link as they can (Proxmox's), auto-converge", 4, EGRESS),
];

async function inLanes(scene: Scene, lanes: number, bandwidth: number, signal: AbortSignal): Promise<Emptied> {
  const [source, ...destinations] = scene.manifest.hosts;
  const left = scene.manifest.guests.map((guest, index) => ({ guest, to: destinations[index % destinations.length] }));
  const notes: string[] = [];
  const lane = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const { guest, to } = next;
      if (source === undefined || to === undefined) throw new Error('the lab has too few hosts');
      const stage: Stage = {
        manifest: { ...scene.manifest, hosts: [source, to] },
        stateDir: scene.stateDir,
        vm: guest.name,
        profile: profileNamed(guest.profile),
        bandwidthBytesPerSec: bandwidth,
        maxStallMs: MAX_STALL_MS,
        downtimeLimitMs: downtimeLimit(MAX_STALL_MS),
        limitMs: LIMIT_MS,
        signal,
        turn: Promise.resolve(),
        begin: async () => undefined,
        begun: Promise.resolve(),
      };
      const { note } = await migratePair(stage, { capabilities: ['auto-converge'] }, async () => undefined);
      if (note !== null) notes.push(`${guest.name}: ${note}`);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return { done: notes.length === 0, notes, moves: [] };
}

const answerSchema = z.looseObject({
  state: z.string(),
  moves: z.array(
    z.looseObject({
      ...resultSchema.shape.moves.unwrap().element.shape,
      state: z.string(),
      attempts: z.number(),
      reason: z.string().nullable(),
    }),
  ),
});

async function evacuated(scene: Scene, policy: PolicyName, signal: AbortSignal): Promise<Emptied> {
  const host = scene.manifest.hosts[0]?.name ?? '';
  const ended = await program(scene, signal, 'evacuate', host, '--policy', policy, '--wait', '-o', 'json');
  const { state, moves } = answerSchema.parse(JSON.parse(ended));
  const notes = moves
    .filter((move) => move.state !== 'done' || move.attempts > 1)
    .map((move) => `${move.vm}: ${move.state} after ${move.attempts} attempts: ${move.reason}`);
  return { done: state === 'done', notes: state === 'done' ? notes : [`the operation is ${state}`, ...notes], moves };
}

/** `hostevac up`, once it serves; to be killed by whoever asked. */
export async function serve(scene: Scene): Promise<ChildProcess> {
  const up = spawn(process.execPath, [PROGRAM, 'up', '--port', '0', '--log-level', 'error'], {
    cwd: scene.stateDir,
    env: environment(scene),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve, reject) => {
    up.stdout.once('data', () => resolve());
    up.once('exit', (code) => reject(new Error(`hostevac up ended with ${code}`)));
  });
  return up;
}

/** Its stdout. */
async function program(scene: Scene, signal: AbortSignal, ...args: string[]): Promise<string> {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    cwd: scene.stateDir,
    env: environment(scene),
    stdio: ['ignore', 'pipe', 'inherit'],
    signal,
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await new Promise<void>((resolve, reject) => child.once('error', reject).once('close', () => resolve()));
  return text;
}

function environment({ stateDir }: Scene): NodeJS.ProcessEnv {
  const { PATH, HOME } = process.env;
  return { PATH, HOME, TMPDIR: stateDir, HOSTEVAC_STATE_DIR: stateDir };
}
