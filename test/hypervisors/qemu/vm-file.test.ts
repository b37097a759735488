/** Definitions: what is accepted, every problem at once, and the uuid that a VM is given. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HostevacError } from '../../../src/domain/errors.ts';
import { type VmDir, vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';
import { ensureUuid, nameIn, parseDefinition, readDefinition } from '../../../src/hypervisors/qemu/vm-file.ts';
import { until } from '../../support/condition.ts';

const GOOD = { name: 'web-1', memory: '256MiB', cpus: 2, argv: ['-m', '256'] };
const parse = (definition: unknown) => parseDefinition(JSON.stringify(definition), 'vm.json');

function problems(definition: unknown): (readonly [path: string, remedy: string])[] {
  try {
    parse(definition);
  } catch (error) {
    if (error instanceof HostevacError) return error.problems.map(({ path, remedy }) => [path, remedy] as const);
    throw error;
  }
  return [];
}

describe('a definition', () => {
  test('gives sizes in bytes, and defaults for what is optional', () => {
    expect(parse(GOOD)).toEqual({
      name: 'web-1',
      uuid: null,
      memoryBytes: 256 * 2 ** 20,
      cpus: 2,
      argv: ['-m', '256'],
      binary: 'qemu-system-x86_64',
      cwd: null,
      incoming: null,
      labels: null,
      raw: GOOD,
    });
    expect(parse({ ...GOOD, labels: { owner: 'ml' } }).labels).toEqual({ owner: 'ml' });
    expect(parse({ ...GOOD, memory: 1024 }).memoryBytes).toBe(1024);
  });

  test.each([
    ['just written', 0],
    ['long unchanged', 1_200],
  ])('%s is read anew when it has changed, however little', async (_, ageMs) => {
    const root = mkdtempSync(join(tmpdir(), 'vmfile-'));
    try {
      const path = join(root, 'vm.json');
      const at = new Date(2_000_000_000);
      for (const cpus of [2, 3, 4]) {
        writeFileSync(path, JSON.stringify({ ...GOOD, cpus }));
        // Somebody may set the time back; the same size and inode it has anyway.
        utimesSync(path, at, at);
        const { ctimeMs } = statSync(path);
        await until(() => Date.now() - ctimeMs >= ageMs, 5_000);
        expect(readDefinition(path)?.cpus).toBe(cpus);
        expect(readDefinition(path)?.cpus).toBe(cpus);
      }
      rmSync(path);
      expect(readDefinition(path)).toBeUndefined();
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });

  test('that is nested so deep that it could not be written again is refused when it is read', () => {
    const nested = (levels: number) =>
      `{"name":"web-1","memory":"1MiB","cpus":1,"argv":[],"x":${'['.repeat(levels)}${']'.repeat(levels)}}`;
    expect(parseDefinition(nested(63), 'vm.json').name).toBe('web-1');
    expect(() => parseDefinition(nested(100_000), 'vm.json')).toThrow(/vm.json.*more than 64 deep/s);
  });

  test('keeps what others wrote into it', () => {
    expect(parse({ ...GOOD, owner: 'ops' }).raw).toMatchObject({ owner: 'ops' });
  });

  test('may begin its arguments with the program', () => {
    expect(parse({ ...GOOD, argv: ['qemu-system-aarch64', '-m', '1'] })).toMatchObject({
      binary: 'qemu-system-aarch64',
      argv: ['-m', '1'],
    });
    expect(parse({ ...GOOD, argv: ['/no/such/qemu-disk.img'] })).toMatchObject({ argv: ['/no/such/qemu-disk.img'] });
    expect(parse({ ...GOOD, binary: '/opt/qemu' }).binary).toBe('/opt/qemu');
  });

  test('that is faulty says everything that is wrong with it, and what to do', () => {
    const faulty = { name: 'x\n', uuid: 'abc', memory: 'much', cpus: 0, argv: ['-daemonize', 7], cwd: 'here' };
    const found = problems(faulty);
    expect(found.map(([path]) => path).sort()).toEqual(['argv[1]', 'cpus', 'cwd', 'memory', 'name', 'uuid']);
    for (const [, remedy] of found) expect(remedy).not.toBe('');
  });

  test.each(['-pidfile', '--pidfile', '-incoming', '-daemonize', '-qmp'])(
    'that gives %s itself is refused',
    (option) => {
      const [[path, remedy] = ['', '']] = problems({ ...GOOD, argv: ['-m', '256', option] });
      expect([path, remedy]).toEqual(['argv[2]', expect.stringContaining('remove it')]);
    },
  );

  test('that is no JSON says so', () => {
    expect(() => parseDefinition('{"name": "x",', 'vm.json')).toThrow(/vm\.json has 1 problem:\n.*is no JSON/);
    expect(() => parseDefinition('7', 'vm.json')).toThrow(/vm\.json/);
  });
});

describe('in a directory', () => {
  let root: string;
  let dir: VmDir;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'vmfile-'));
    dir = vmDir(join(root, 'x'));
    mkdirSync(dir.path);
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));
  const put = (text: string) => writeFileSync(dir.definition, text);

  test('the name is found in a faulty definition, and not where there is none', () => {
    put(JSON.stringify({ name: 'web-1', cpus: -1 }));
    expect(nameIn(dir.definition)).toBe('web-1');
    put('{"name": "web-1"');
    expect(nameIn(dir.definition)).toBeUndefined();
    expect(nameIn(dir.incoming)).toBeUndefined();
  });

  test('a file that is too large is not read', () => {
    put(' '.repeat(2 ** 20 + 1));
    expect(() => readDefinition(dir.definition)).toThrow(/more than 1048576 bytes/);
  });

  test('a uuid is given once, whoever asks at the same time, and the rest of the file stays', async () => {
    put(JSON.stringify({ ...GOOD, owner: 'ops' }));
    const uuids = await Promise.all(Array.from({ length: 8 }, () => ensureUuid(dir, dir.definition, null)));
    expect(new Set(uuids).size).toBe(1);
    expect(JSON.parse(readFileSync(dir.definition, 'utf8'))).toEqual({ ...GOOD, owner: 'ops', uuid: uuids[0] });
  });

  test("QEMU's own uuid is taken before a new one is made, and one that is there is never changed", async () => {
    put(JSON.stringify(GOOD));
    const own = '0f7b2f1e-5d0c-4c59-8a52-0d3ad0f3c0de';
    expect(await ensureUuid(dir, dir.definition, own)).toBe(own);
    expect(await ensureUuid(dir, dir.definition, '11111111-1111-4111-8111-111111111111')).toBe(own);
  });
});
