/** When the client writes and reads, against a peer on a thread of its own while this thread stands still. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { connectQmp } from '../../../../src/hypervisors/qemu/qmp/client.ts';
import type { Qmp } from '../../../../src/hypervisors/qemu/qmp/qmp.ts';
import { until } from '../../../support/condition.ts';

/** Greets and answers at once, and counts both in shared memory. */
const PEER = `
  const { workerData: { path, shared } } = require('node:worker_threads');
  const counts = new Int32Array(shared);
  require('node:net').createServer((socket) => {
    socket.write('{"QMP":{"version":{"qemu":{"micro":0,"minor":0,"major":10}},"capabilities":[]}}\\n');
    Atomics.add(counts, 1, 1);
    Atomics.notify(counts, 1);
    socket.on('error', () => {});
    socket.on('data', (data) => {
      for (const line of data.toString().trim().split('\\n')) {
        socket.write(JSON.stringify({ return: {}, id: JSON.parse(line).id }) + '\\n');
        Atomics.add(counts, 0, 1);
        Atomics.notify(counts, 0);
      }
    });
  }).listen(path, () => Atomics.store(counts, 2, 1));
`;
const ANSWERED = 0;
const GREETED = 1;
const LISTENING = 2;

let directory: string;
let path: string;
let peer: Worker;
let counts: Int32Array;
let qmp: Qmp | null;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'hostevac-ticks-'));
  path = join(directory, 'qmp.sock');
  const shared = new SharedArrayBuffer(12);
  counts = new Int32Array(shared);
  qmp = null;
  peer = new Worker(PEER, { eval: true, workerData: { path, shared } });
  await until(() => Atomics.load(counts, LISTENING) === 1, 10_000, 'the peer listens');
});

afterEach(async () => {
  qmp?.close();
  await peer.terminate();
  rmSync(directory, { recursive: true, force: true });
});

/** Stands still until the count has changed from what it was. */
function standStill(index: number, was: number): string {
  return Atomics.wait(counts, index, was, 5000);
}

function standStillFor(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test('every command has left before the call returns, so the fence that was just checked still holds', async () => {
  qmp = await connectQmp(path);
  const asked = [qmp.execute('a', z.object({})), qmp.execute('b', z.object({}))];
  while (Atomics.load(counts, ANSWERED) < 3) {
    expect(standStill(ANSWERED, Atomics.load(counts, ANSWERED))).not.toBe('timed-out');
  }
  expect(await Promise.all(asked)).toEqual([{}, {}]);
});

test('an answer that came while this process stood still past the time limit is an answer', async () => {
  qmp = await connectQmp(path);
  const asked = qmp.execute('a', z.object({}), {}, { timeoutMs: 20 });
  standStill(ANSWERED, 1);
  standStillFor(60);
  expect(await asked).toEqual({});
});

test('and so is a greeting', async () => {
  const connecting = connectQmp(path, { timeoutMs: 200 });
  setImmediate(() => {
    standStill(GREETED, 0);
    standStillFor(300);
  });
  qmp = await connecting;
  expect(qmp.greeting.version.major).toBe(10);
});
