/** The lab's network: links as fast as they are said to be, cut without a sound and healed, and gone afterwards. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  cutLink,
  healLink,
  type LabNetwork,
  makeNetwork,
  networkNamespacesOf,
  removeNetwork,
} from '../../src/lab/network.ts';
import { planLab } from '../../src/lab/plan.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
const EGRESS = 20 * MIB;

/** Prints the bytes that have arrived, ten times a second, and `end` when the stream ends. */
const RECEIVER = `
  const { createServer } = require('node:net');
  let bytes = 0;
  createServer((socket) => {
    socket.on('data', (data) => { bytes += data.length; });
    socket.on('error', (error) => console.log('error', error.code));
    socket.on('close', () => console.log('end'));
  }).listen(5000, () => console.log('listening'));
  setInterval(() => console.log(bytes), 100);
`;
const SENDER = `
  const { connect } = require('node:net');
  const block = Buffer.alloc(65536);
  const socket = connect(5000, process.argv[1], () => { console.log('connected'); fill(); });
  const fill = () => { while (socket.write(block)); };
  socket.on('drain', fill);
  socket.on('error', (error) => console.log('error', error.code));
  socket.on('close', () => console.log('end'));
`;

describeWith(['netns'], "the lab's network", () => {
  let network: LabNetwork = { id: '', hosts: [] };
  const children: ChildProcess[] = [];

  beforeEach(() => {
    const id = randomBytes(2).toString('hex');
    const options = {
      hosts: 3,
      guests: 1,
      profiles: ['idle'],
      egressBytesPerSec: EGRESS,
      network: true,
      spread: false,
    } as const;
    network = { id, hosts: planLab(options, '/nowhere', id).hosts };
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await removeNetwork(network.id);
  });

  function runIn(index: number, script: string, ...args: string[]): { said: () => string[] } {
    const namespace = network.hosts[index]?.networkNamespace ?? '';
    const command = [`--net=/run/netns/${namespace}`, '--', process.execPath, '-e', script, ...args];
    const child = spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (data: string) => {
      text += data;
    });
    return { said: () => text.split('\n').slice(0, -1) };
  }

  async function stream(): Promise<{ sender: () => string[]; receiver: () => string[]; bytes: () => number }> {
    const receiver = runIn(1, RECEIVER);
    await until(() => receiver.said().includes('listening'), 10_000, 'the receiver');
    const sender = runIn(0, SENDER, network.hosts[1]?.migrationAddress ?? '');
    const bytes = (): number => Math.max(0, ...receiver.said().map(Number).filter(Number.isFinite));
    await until(() => bytes() > MIB, 10_000, 'the first bytes');
    return { sender: sender.said, receiver: receiver.said, bytes };
  }

  test('carries what was asked for and a little more, not the speed of the machine', async () => {
    await makeNetwork(network, EGRESS);
    const { bytes } = await stream();
    const before = { bytes: bytes(), atMs: performance.now() };
    await until(() => bytes() > before.bytes + 40 * MIB, 30_000, '40 MiB');
    const rate = ((bytes() - before.bytes) / (performance.now() - before.atMs)) * 1_000;
    expect(rate).toBeLessThan(EGRESS * 1.25);
    expect(rate).toBeGreaterThan(EGRESS * 0.6);
  });

  test('a link that is cut goes silent: the stream stands still, nobody is told, and it goes on when it is healed', async () => {
    await makeNetwork(network, EGRESS);
    const { sender, receiver, bytes } = await stream();
    await cutLink(network, 'lab-a');
    // What was in the bridge's queues arrives, then ten reports in a row say the same.
    const lastReports = (): string[] => receiver().slice(-10);
    await until(() => new Set(lastReports()).size === 1, 10_000, 'a second without a byte');
    const stalled = bytes();
    const reports = receiver().length;
    await until(() => receiver().length > reports + 40, 20_000, 'four more seconds');
    expect(bytes()).toBe(stalled);
    expect([...sender(), ...receiver()].filter((line) => /error|end/.test(line))).toEqual([]);
    const carrier = execFileSync('ip', ['-n', network.hosts[0]?.networkNamespace ?? '', 'link', 'show', 'mig0'], {
      encoding: 'utf8',
    });
    expect(carrier).toContain('LOWER_UP');
    await healLink(network, 'lab-a');
    // TCP tries again after ever longer pauses.
    await until(() => bytes() > stalled + 10 * MIB, 40_000, 'the stream goes on');
    expect([...sender(), ...receiver()].filter((line) => /error|end/.test(line))).toEqual([]);
  });

  test('is not seen outside of its namespaces, and leaves none', async () => {
    const links = (): string => execFileSync('ip', ['-br', 'link'], { encoding: 'utf8' });
    const before = links();
    await makeNetwork(network, EGRESS);
    expect(networkNamespacesOf(network.id)).toHaveLength(4);
    expect(links()).toBe(before);
    await removeNetwork(network.id);
    expect(networkNamespacesOf(network.id)).toEqual([]);
    expect(links()).toBe(before);
    await removeNetwork(network.id);
  });
});
