/** A file system that refuses: what the adapter says of it, and that one bad entry does not hide a host. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RealClock } from '../../../src/clock/real-clock.ts';
import { changing, looking } from '../../../src/hypervisors/qemu/edge.ts';
import { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { heldFence } from '../hypervisor-behaviour.ts';

const VM = { name: 'web-1', uuid: '0f7b2f1e-5d0c-4c59-8a52-0d3ad0f3c0de', memory: '1MiB', cpus: 1, argv: [] };

let root: string;
let runDir: string;
let adapter: QemuHypervisor;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'hevfs-'));
  runDir = join(root, 'a');
  mkdirSync(join(runDir, 'web-1'), { recursive: true });
  writeFileSync(join(runDir, 'web-1', 'vm.json'), JSON.stringify(VM));
  const ports = { first: 53_900, last: 53_909 };
  const host = { name: 'a', migrationAddress: '127.0.0.1', memoryBytes: 2 ** 30, cpus: 1, runDir, ports };
  adapter = new QemuHypervisor({
    hosts: [{ ...host, networkNamespace: null }],
    clock: new RealClock(),
    log: pino({ level: 'silent' }),
    gatekeeper: null,
  });
});
afterEach(async () => {
  await adapter.close();
  rmSync(root, { recursive: true, force: true });
});

test('a link that leads to itself hides none of the other VMs', async () => {
  const loop = join(runDir, 'loop');
  symlinkSync(loop, loop);
  expect(await adapter.inventory('a')).toMatchObject({ vms: [{ name: 'web-1', state: 'shutOff' }] });
  expect(await adapter.look('a', 'nobody')).toEqual({ present: false });
});

test('nor does a directory whose definition is a directory; but while something runs there nobody knows what', async () => {
  mkdirSync(join(runDir, 'odd', 'vm.json'), { recursive: true });
  expect(await adapter.look('a', 'nobody')).toEqual({ present: false });
  const server = createServer().listen(join(runDir, 'odd', 'qmp.sock'));
  try {
    await new Promise((resolve) => server.once('listening', resolve));
    const nobodyKnows = { code: 'hostUnreachable', message: expect.stringMatching(/odd.*no regular file/) };
    await expect(adapter.inventory('a')).rejects.toMatchObject(nobodyKnows);
  } finally {
    server.close();
  }
});

test('what cannot be removed is refused with its path and what to do', async () => {
  rmSync(join(runDir, 'web-1', 'vm.json'));
  writeFileSync(join(runDir, 'web-1', 'incoming.json'), JSON.stringify(VM));
  mkdirSync(join(runDir, 'web-1', 'qemu.log'));
  await expect(adapter.discardIncoming(heldFence(1), 'a', 'web-1')).rejects.toMatchObject({
    code: 'hypervisorRefused',
    message: expect.stringMatching(/web-1\/qemu.log.*; a directory stands where a file should be/),
  });
});

test.each([
  ['looking', looking, 'hostUnreachable'],
  ['changing', changing, 'hypervisorRefused'],
] as const)('%s gives an error of the file system a code, and leaves others as they are', async (_, inWords, code) => {
  const full = Object.assign(new Error("ENOSPC: no space left on device, open '/run/x'"), { code: 'ENOSPC' });
  const message = "ENOSPC: no space left on device, open '/run/x'; make room there";
  await expect(inWords(() => Promise.reject(full))).rejects.toMatchObject({ code, message });
  const fault = new TypeError('a fault of ours');
  await expect(inWords(() => Promise.reject(fault))).rejects.toBe(fault);
});
