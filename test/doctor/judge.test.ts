/** What is said of which facts: the ones that cannot be planted on a machine, and the bounds between right and wrong. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { reportLines } from '../../src/cli/doctor-text.ts';
import { plain } from '../../src/cli/text.ts';
import { CHECKS, fault, notChecked, ok, reportOf, reportSchema, warning } from '../../src/doctor/finding.ts';
import { judgeLibvirt, judgeQemu } from '../../src/doctor/judge/hypervisors.ts';
import {
  type DirectoryFacts,
  judgeCgroups,
  judgeDirectory,
  judgeGuard,
  judgeNode,
  judgeSize,
} from '../../src/doctor/judge/machine.ts';
import { judgeBandwidth, judgePort } from '../../src/doctor/judge/network.ts';
import { judgeClock, judgeRedis, type RedisFacts } from '../../src/doctor/judge/redis.ts';
import { placeOf } from '../../src/doctor/libvirt-uri.ts';

const MIB = 2 ** 20;

describe('Node', () => {
  test.each([
    ['20.18.3', 'fault'],
    ['18.20.0', 'fault'],
    ['20.19.0', 'ok'],
    ['22.1.0', 'ok'],
    ['24.0.0', 'ok'],
  ])('%s: %s', (version, verdict) => {
    expect(judgeNode(version).verdict).toBe(verdict);
  });
});

describe('Redis', () => {
  const fit: RedisFacts = {
    address: 'redis://r:6379',
    info: { redis_version: '7.2.4', maxmemory_policy: 'noeviction', aof_enabled: '1', role: 'master' },
    appendfsync: 'always',
    maxmemoryPolicy: null,
    local: false,
    encrypted: true,
    password: true,
    forbidden: [],
    forbiddenUnknown: '',
    clock: { aheadMs: 3, uncertainMs: 2 },
  };
  const wrongOf = (facts: Partial<RedisFacts>) =>
    judgeRedis({ ...fit, ...facts })
      .filter(({ verdict }) => verdict !== 'ok')
      .map(({ id, verdict }) => `${id}: ${verdict}`);

  test('a fit one', () => {
    expect(wrongOf({})).toEqual([]);
  });

  test('an old one, also where a Valkey calls itself one', () => {
    expect(wrongOf({ info: { ...fit.info, redis_version: '6.0.16' } })).toEqual(['redis.version: fault']);
    const valkey = { ...fit.info, redis_version: '7.2.4', valkey_version: '8.0.1' };
    expect(judgeRedis({ ...fit, info: valkey }).find(({ id }) => id === 'redis.version')?.found).toBe('version 8.0.1');
  });

  test('one that only tells its policy by CONFIG, and one that tells nothing', () => {
    expect(wrongOf({ info: { ...fit.info, maxmemory_policy: 'volatile-lru' } })).toEqual(['redis.eviction: fault']);
    expect(wrongOf({ info: null, maxmemoryPolicy: 'allkeys-lfu' })).toContain('redis.eviction: fault');
    expect(wrongOf({ info: null })).toContain('redis.eviction: notChecked');
  });

  test('encryption without a password is half of it', () => {
    const found = judgeRedis({ ...fit, password: false }).find(({ id }) => id === 'redis.transport');
    expect(found).toMatchObject({ verdict: 'warning', remedy: expect.not.stringContaining('tls-port') });
  });

  test.each([
    [400, 10, 'ok'],
    [-1_500, 10, 'warning'],
    [1_500, 700, 'ok'],
    [6_000, 10, 'fault'],
    [-6_000, 1_200, 'warning'],
  ])('a clock %d ms ahead, known within %d: %s', (aheadMs, uncertainMs, verdict) => {
    expect(judgeClock('redis.clock', 'redis', 'Redis', { aheadMs, uncertainMs }).verdict).toBe(verdict);
  });
});

describe('directories', () => {
  const fine: DirectoryFacts = { path: '/d', fault: null, freeBytes: 2 ** 30, freeInodes: 1_000, above: null };
  const verdictOf = (facts: Partial<DirectoryFacts>, make: string | null = null) =>
    judgeDirectory('state.directory', 'this machine', 'X', { ...fine, ...facts }, make).verdict;
  test.each<[string, Partial<DirectoryFacts>, string]>([
    ['with room', {}, 'ok'],
    ['whose file system tells nothing', { freeBytes: null, freeInodes: null }, 'ok'],
    ['with little room', { freeBytes: 100 * MIB }, 'warning'],
    ['that is full', { freeBytes: MIB }, 'fault'],
    ['without inodes', { freeInodes: 0 }, 'fault'],
  ])('one %s', (_, facts, verdict) => {
    expect(verdictOf(facts)).toBe(verdict);
  });
  test('one that is not there is a fault where nobody makes it, or may', () => {
    const missing = { fault: 'missing', above: { path: '/', writable: true } } as const;
    expect(verdictOf(missing)).toBe('fault');
    expect(verdictOf(missing, 'somebody makes it')).toBe('ok');
    expect(verdictOf({ ...missing, above: { path: '/', writable: false } }, 'somebody makes it')).toBe('fault');
  });
});

describe('throttling', () => {
  test('a cgroup v2 without the cpu controller', () => {
    const group = { version: 2, path: '/sys/fs/cgroup/x', cpuThere: false } as const;
    const judged = judgeCgroups({ uid: 0, group, writable: true });
    expect(judged.map(({ id, verdict }) => `${id}: ${verdict}`)).toEqual([
      'throttle.rights: ok',
      'throttle.cgroup: fault',
    ]);
    expect(judged[1]?.remedy).toContain('+cpu');
    expect(judgeCgroups({ uid: 0, group: 'cgroup v2 is not mounted', writable: false })[0]).toMatchObject({
      verdict: 'fault',
    });
  });
  test("the guard's words are parted into what is wrong and what to do", () => {
    expect(judgeGuard('cannot make a group in /g (EACCES): run hostevac as root, or as the owner')).toMatchObject({
      found: 'cannot make a group in /g (EACCES)',
      remedy: 'run hostevac as root, or as the owner',
    });
    expect(judgeGuard(null).verdict).toBe('ok');
  });
});

describe('hosts', () => {
  const machine = { memory: 64 * 2 ** 30, cpus: 16 };
  test('that together promise more than their machine has', () => {
    const host = { name: 'a', memory: 40 * 2 ** 30, cpus: 8 };
    expect(judgeSize(host, machine, []).verdict).toBe('ok');
    expect(judgeSize(host, machine, [{ ...host, name: 'b' }])).toMatchObject({
      verdict: 'warning',
      found: expect.stringContaining('with b on the same machine it is 80GiB'),
    });
  });
  test('QEMU without KVM, and one that lacks something', () => {
    const facts = { binary: 'q', version: '8.2.0', why: '', kvm: true, refusal: null, degradations: [] };
    expect(judgeQemu('a', facts).verdict).toBe('ok');
    expect(judgeQemu('a', { ...facts, degradations: ['no x'] })).toMatchObject({
      verdict: 'warning',
      found: expect.stringContaining('no x'),
    });
    expect(judgeQemu('a', { ...facts, refusal: 'it loses pages; run it with KVM' })).toMatchObject({
      verdict: 'fault',
      found: 'it loses pages',
      remedy: 'run it with KVM',
    });
  });
  test.each([
    ["Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory", 'certificates'],
    [
      "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
      'systemctl start libvirtd',
    ],
    ["Failed to connect socket to '/run/x': Permission denied", 'group libvirt'],
    ['authentication unavailable: no polkit agent available', 'group libvirt'],
    ['unable to connect to server at a:16514: No route to host', 'firewall'],
    ['did not answer within 10s', 'virsh -c qemu:///system version'],
  ])('libvirt says %s', (failure, remedy) => {
    const facts = { uri: 'qemu:///system', daemon: null, qemu: null, failure, refusal: null, degradations: [] };
    expect(judgeLibvirt('a', facts).remedy).toContain(remedy);
  });
});

describe('the network', () => {
  const port = { id: 'network.port', subject: 'a -> b', address: 'b', port: 49_152 } as const;
  test('a refusal shows that the way is open, where nobody was to listen', () => {
    expect(judgePort({ ...port, expected: false, outcome: 'ECONNREFUSED' }).verdict).toBe('ok');
    expect(judgePort({ ...port, expected: true, outcome: 'ECONNREFUSED' }).verdict).toBe('fault');
    expect(judgePort({ ...port, expected: false, outcome: 'ETIMEDOUT' }).verdict).toBe('fault');
  });
  test.each([
    [100, 0.3, 'ok'],
    [94, 0.3, 'ok'],
    [90, 0.3, 'fault'],
    [90, 0.9, 'notChecked'],
    [null, 0, 'notChecked'],
  ])('%s of 100 MiB/s with %d of a core: %s', (mib, busiestEnd, verdict) => {
    const bytesPerSec = mib === null ? null : mib * MIB;
    expect(judgeBandwidth({ subject: 'a -> b', bytesPerSec, why: 'w', promised: 100 * MIB, busiestEnd }).verdict).toBe(
      verdict,
    );
  });
  test.each([
    ['qemu:///system', null],
    ['qemu+unix:///system?socket=/run/x', null],
    ['qemu+tls://a.example/system', { host: 'a.example', port: 16_514 }],
    ['qemu://a/system', { host: 'a', port: 16_514 }],
    ['qemu+tcp://10.0.0.1:16599/system', { host: '10.0.0.1', port: 16_599 }],
    ['qemu+ssh://root@a/system', { host: 'a', port: 22 }],
    ['qemu+tls://[fd00::1]:7/system', { host: 'fd00::1', port: 7 }],
    ['qemu+ext://a/system', null],
  ])('%s leads to %j', (uri, place) => {
    expect(placeOf(uri)).toEqual(place);
  });
});

describe('a report', () => {
  const findings = [
    ok('node.version', 'this machine', 'Node 24'),
    warning('clock.kernel', 'this machine', 'not synchronised', 'start one'),
    notChecked('redis.reach', 'redis', 'none'),
    fault('network.name', 'a\u001b[2J', 'x is not resolved', 'make it known'),
  ];
  test('has the worst verdict, and is what its schema says', () => {
    expect(reportSchema.parse(reportOf(['a'], findings)).verdict).toBe('fault');
    expect(reportOf([], findings.slice(0, 3)).verdict).toBe('warning');
    expect(
      reportOf(
        [],
        [findings[0], findings[2]].flatMap((each) => each ?? []),
      ).verdict,
    ).toBe('ok');
  });
  test('as text: what to do stands below; no name moves the cursor', () => {
    expect(reportLines(reportOf(['a'], findings), plain)).toEqual([
      'VERDICT      CHECK         OF            FOUND',
      'ok           node.version  this machine  Node 24',
      'WARNING      clock.kernel  this machine  not synchronised',
      '             -> start one',
      'not checked  redis.reach   redis         none',
      'FAULT        network.name  a\\x1b[2J      x is not resolved',
      '             -> make it known',
      '',
      '1 fault, 1 warning, 1 ok; 1 not checked',
    ]);
  });
  test('every check stands in docs/cli.md, with these words', () => {
    const text = readFileSync(fileURLToPath(new URL('../../docs/cli.md', import.meta.url)), 'utf8');
    const missing = Object.entries(CHECKS).filter(([id, what]) => !text.includes(`| \`${id}\` | ${what} |`));
    expect(missing).toEqual([]);
  });
});
