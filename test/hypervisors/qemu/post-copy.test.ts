/**
 * Connecting a post-copy anew where real QEMU cannot be made to wait on demand: its two ends are scripted, and minutes pass
 * at once. What QEMU itself does is tried in post-copy.qemu.test.ts.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { RealClock } from '../../../src/clock/real-clock.ts';
import { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { thisProcess } from '../../../src/runtime/process-identity.ts';
import { until } from '../../support/condition.ts';
import { heldFence } from '../hypervisor-behaviour.ts';
import { answer, type Command, GREETING, onCommands, ScriptedServer } from './qmp/scripted-server.ts';

const fence = heldFence(5);
const target = { vm: 'quick', source: 'a', destination: 'b', migrationId: 'm1' };
const COUNTERS = {
  total: 64,
  remaining: 32,
  transferred: 32,
  mbps: 1,
  'dirty-pages-rate': 0,
  'dirty-sync-count': 2,
  'page-size': 4_096,
};

/** What each of the two QEMUs is and was told. */
class End {
  status: string;
  runState: string;
  /** It answers nothing but commands out of band, and greets nobody. */
  hangs = false;
  readonly heard: string[] = [];
  readonly #counters: object;

  constructor(status: string, runState: string, counters: object) {
    this.status = status;
    this.runState = runState;
    this.#counters = counters;
  }

  serve(): Promise<ScriptedServer> {
    return ScriptedServer.start((socket) => {
      if (this.hangs) return;
      socket.write(GREETING);
      onCommands(socket, (command) => {
        if (command.execute === 'qmp_capabilities' || command.outOfBand || !this.hangs) {
          answer(socket, command, this.#answerTo(command));
        }
      });
    });
  }

  #answerTo({ execute, outOfBand }: Command): unknown {
    switch (execute) {
      case 'query-cpus-fast':
        return [{ 'thread-id': process.pid }];
      case 'query-uuid':
        return { UUID: '0f7b2f1e-5d0c-4c59-8a52-0d3ad0f3c0de' };
      case 'query-kvm':
        return { enabled: true };
      case 'query-migrate-capabilities':
        return [];
      case 'query-migrate':
        return { status: this.status, ...this.#counters };
      case 'query-status':
        return { status: this.runState };
      case 'migrate-pause':
        this.status = 'postcopy-paused';
        break;
      case 'migrate':
      case 'migrate-recover':
        this.status = 'postcopy-recover';
        break;
      default:
        return {};
    }
    this.heard.push(outOfBand ? `${execute} out of band` : execute);
    return {};
  }
}

describe('a post-copy between scripted ends', () => {
  let root: string;
  let source: End;
  let destination: End;
  /** The destination's main monitor. */
  let monitor: ScriptedServer;
  let qemu: QemuHypervisor;
  const servers: ScriptedServer[] = [];

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), 'hevp-'));
    source = new End('postcopy-active', 'finish-migrate', { ram: COUNTERS });
    destination = new End('postcopy-active', 'running', {});
    const definition = { name: 'quick', memory: '64MiB', cpus: 1, argv: ['-nodefaults'] };
    const incoming = { ...definition, incoming: { migrationId: 'm1', source: 'a', port: null } };
    await place('a', source, 'vm.json', definition);
    monitor = await place('b', destination, 'incoming.json', incoming);
    const { pid, startTicks } = thisProcess();
    const record = { migrationId: 'm1', destination: 'b', uri: 'tcp:127.0.0.1:1', token: 5, gated: false };
    const started = { ...record, pid, startTicks, startedAtMonotonicMs: 0, status: 'started' };
    writeFileSync(join(root, 'a', 'quick', 'migration.json'), JSON.stringify(started));
    const hosts = ['a', 'b'].map((name) => ({
      name,
      migrationAddress: '127.0.0.1',
      memoryBytes: 2 ** 29,
      cpus: 4,
      runDir: join(root, name),
      ports: { first: 53_000, last: 53_009 },
      networkNamespace: null,
    }));
    qemu = new QemuHypervisor({ hosts, clock: new RealClock(), log: pino({ level: 'silent' }), gatekeeper: null });
  });

  afterEach(async () => {
    vi.useRealTimers();
    await qemu.close();
    for (const server of servers.splice(0)) await server.close();
    rmSync(root, { recursive: true, force: true });
  });

  /** Its directory, with a main monitor (returned) and a spare one. */
  async function place(host: string, end: End, file: string, definition: object): Promise<ScriptedServer> {
    const dir = join(root, host, 'quick');
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, file), JSON.stringify(definition));
    const [main, spare] = [await end.serve(), await end.serve()];
    servers.push(main, spare);
    symlinkSync(main.path, join(dir, 'qmp.sock'));
    symlinkSync(spare.path, join(dir, 'spare.sock'));
    return main;
  }

  const lineIs = (open: number) => until(() => monitor.open === open, 5_000, `${open} lines`);

  test('keeps its line to a destination that hangs for minutes while nobody can look', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    await qemu.sample('a', 'quick');
    await vi.waitUntil(() => monitor.open === 1);
    vi.advanceTimersByTime(5 * 60_000);
    vi.useRealTimers();
    destination.hangs = true;
    source.status = 'postcopy-paused';
    await qemu.recoverPostCopy(fence, target);
    expect(destination.heard).toEqual(['migrate-pause out of band', 'migrate-recover out of band']);
    expect(source.heard).toEqual(['migrate']);
    expect(monitor.connections).toBe(1);
  });

  test('asks a destination whose main monitor its own line holds over the other one', async () => {
    await qemu.sample('a', 'quick');
    await lineIs(1);
    destination.hangs = true;
    await expect(qemu.look('b', 'quick')).rejects.toMatchObject({ code: 'hostUnreachable' });
    // The line, and a look whether anybody listens there.
    expect(monitor.connections).toBe(2);
    destination.hangs = false;
    expect(await qemu.look('b', 'quick')).toMatchObject({ state: 'running', arriving: true });
    expect(monitor.connections).toBe(2);
  });

  test('gives the line up once all has arrived, or its source has ended', async () => {
    await qemu.sample('a', 'quick');
    await lineIs(1);
    destination.status = 'completed';
    await qemu.look('b', 'quick');
    await lineIs(0);
    await qemu.sample('a', 'quick');
    await lineIs(1);
    source.status = 'completed';
    await qemu.sample('a', 'quick');
    await lineIs(0);
  });

  test('gives the line up when nobody has looked for a long time', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    await qemu.sample('a', 'quick');
    await vi.waitUntil(() => monitor.open === 1);
    vi.advanceTimersByTime(11 * 60_000);
    vi.useRealTimers();
    await lineIs(0);
    expect(monitor.connections).toBe(1);
  });

  test.each([
    ['that it began', true],
    ['that it found', false],
  ])('leaves connecting anew %s alone for 10 s', async (_, began) => {
    vi.useFakeTimers({ toFake: ['performance'] });
    source.status = began ? 'postcopy-paused' : 'postcopy-recover';
    await qemu.recoverPostCopy(fence, target);
    expect(source.status).toBe('postcopy-recover');
    source.heard.length = 0;
    vi.advanceTimersByTime(9_000);
    await qemu.recoverPostCopy(fence, target);
    expect(source.heard).toEqual([]);
    vi.advanceTimersByTime(2_000);
    await qemu.recoverPostCopy(fence, target);
    expect(source.heard).toEqual(['migrate-pause', 'migrate']);
  });
});
