/** Faults that are really there (a Redis that evicts, a directory that is full, a user without rights), and what doctor says of each. */
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { fleetHash, loadFleet } from '../../src/runtime/fleet-source.ts';
import { fleetPrefix } from '../../src/runtime/stores.ts';
import { Presence, type WorkerPresence } from '../../src/store/presence.ts';
import { RedisCellStore } from '../../src/store/redis-store.ts';
import { FAULTY_FLEET, smallFleet } from '../cli/small-fleet.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { RedisServer } from '../support/redis-server.ts';
import { DoctorPlace, fleetText, found, libvirtHost, qemuHost, verdictOf, wrong } from './place.ts';
import { TimeRelay } from './time-relay.ts';

const NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];

let place: DoctorPlace;
const servers: RedisServer[] = [];
beforeEach(() => {
  place = new DoctorPlace();
});
afterEach(async () => {
  await place.close();
  for (const server of servers.splice(0)) await server.close();
});

async function redis(...settings: string[]): Promise<RedisServer> {
  const server = await RedisServer.start(settings);
  servers.push(server);
  return server;
}

describeWith(['redis', 'qemu', 'root', 'cgroup'], 'a place where all is well', () => {
  test('is found well: a worker runs, its heartbeat is read, its guard tried, ports are reached', async () => {
    place.healthyFleet();
    const server = await redis();
    const env = { REDIS_URL: server.url };
    await place.command(['worker', '--hosts', 'a,b', '--operations'], env).says('serving');
    const { code, report, stderr } = await place.doctor([], { env });
    expect(wrong(report)).toEqual([]);
    expect({ code, verdict: report.verdict, hosts: report.hosts }).toEqual({
      code: 0,
      verdict: 'ok',
      hosts: ['a', 'b'],
    });
    const unchecked = report.findings.filter(({ verdict }) => verdict === 'notChecked').map(({ id }) => id);
    // What keeps the clock of a container cannot be asked.
    expect(unchecked.filter((id) => id !== 'clock.kernel')).toEqual([]);
    for (const id of ['redis.permissions', 'throttle.guard', 'workers.fleet', 'workers.clock', 'workers.version']) {
      expect([id, verdictOf(report, id)]).toEqual([id, 'ok']);
    }
    expect(verdictOf(report, 'network.port', 'a -> b')).toBe('ok');
    expect(stderr).not.toContain('Error');
  });

  test('as text: one line for each check, and the sum', async () => {
    place.healthyFleet();
    const server = await redis();
    const { code, stdout } = await place.command(['doctor', 'a'], { REDIS_URL: server.url }).ended;
    expect(code).toBe(0);
    expect(stdout).toMatch(/^VERDICT +CHECK +OF +FOUND$/m);
    expect(stdout).toMatch(/^ok +redis\.eviction +redis +maxmemory-policy is noeviction$/m);
    expect(stdout).toMatch(/^nothing is wrong \(\d+ checked/m);
  });

  test('nothing is left of it where nothing was before', async () => {
    place.healthyFleet();
    rmSync(place.stateDir, { recursive: true });
    const before = place.path('state');
    const { report } = await place.doctor();
    expect(verdictOf(report, 'throttle.guard')).toBe('ok');
    expect(found(report, 'state.directory').found).toContain('does not exist yet');
    expect(() => rmSync(before)).toThrow(/ENOENT/);
  });
});

describeWith(['redis'], 'a Redis that is not as it should be', () => {
  const examine = async (server: RedisServer, url = server.url) => {
    place.fleet(smallFleet());
    return place.doctor([], { env: { REDIS_URL: url } });
  };

  test('it evicts, and writes no append-only file', async () => {
    const { code, report } = await examine(await redis('--maxmemory-policy', 'allkeys-lru', '--appendonly', 'no'));
    expect(code).toBe(1);
    expect(wrong(report)).toEqual(['redis.eviction of redis: fault', 'redis.durability of redis: fault']);
    expect(found(report, 'redis.eviction')).toMatchObject({
      found: expect.stringContaining('allkeys-lru'),
      remedy: expect.stringContaining('CONFIG SET maxmemory-policy noeviction'),
    });
    expect(found(report, 'redis.durability').remedy).toContain('appendonly yes');
  });

  test('it flushes its file once a second: a warning, and no failure', async () => {
    const { code, report } = await examine(await redis('--appendfsync', 'everysec'));
    expect(code).toBe(0);
    expect(wrong(report)).toEqual(['redis.durability of redis: warning']);
  });

  test('its snapshots fail, so that it will refuse writes', async () => {
    const server = await redis('--save', '3600 1');
    const client = server.client();
    await client.config('SET', 'appendonly', 'no');
    rmSync(server.dataDir, { recursive: true });
    await client.bgsave();
    await until(
      async () => (await client.info('persistence')).includes('rdb_last_bgsave_status:err'),
      10_000,
      'a failed save',
    );
    const { report } = await examine(server);
    expect(found(report, 'redis.writes')).toMatchObject({ verdict: 'fault', remedy: expect.stringContaining('df -h') });
  });

  test('it is nearly full', async () => {
    const server = await redis();
    const client = server.client();
    const used = Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1]);
    await client.config('SET', 'maxmemory', String(Math.round(used * 1.02)));
    const { report } = await examine(server);
    expect(found(report, 'redis.writes')).toMatchObject({
      verdict: 'fault',
      remedy: expect.stringContaining('raise maxmemory'),
    });
  });

  test('it is a replica', async () => {
    const primary = await redis();
    const replica = await redis();
    await primary.client().config('SET', 'port', '53990');
    await replica.client().replicaof('127.0.0.1', 53990);
    await until(
      async () => (await replica.client().info('replication')).includes('master_link_status:up'),
      20_000,
      'a link',
    );
    const { code, report } = await examine(replica);
    expect(code).toBe(1);
    expect(wrong(report)).toEqual(['redis.role of redis: fault']);
    expect(found(report, 'redis.role').remedy).toContain('127.0.0.1:53990');
  });

  test('its user lacks commands, or the keys of this fleet, or its channels', async () => {
    const server = await redis();
    const client = server.client();
    await client.call('ACL', 'SETUSER', 'poor', 'on', '>pw', '~*', '&*', '+@all', '-evalsha', '-zadd', '-bzpopmin');
    await client.call('ACL', 'SETUSER', 'elsewhere', 'on', '>pw', '~other:*', '&other:*', '+@all');
    const poor = await examine(server, `unix://poor:pw@localhost${server.socketPath}`);
    expect(poor.code).toBe(1);
    expect(found(poor.report, 'redis.permissions')).toMatchObject({
      verdict: 'fault',
      found: 'this user may not: BZPOPMIN, EVALSHA, ZADD',
      remedy: expect.stringContaining('users.acl'),
    });
    const { report } = await examine(server, `unix://elsewhere:pw@localhost${server.socketPath}`);
    expect(found(report, 'redis.permissions').found).toMatch(
      /HSET on keys \{hostevac:small\}:\*.*SUBSCRIBE to channels/,
    );
    expect(await client.keys('*')).toEqual([]);
  });

  test('a user who may ask nothing is told what could not be seen', async () => {
    const server = await redis();
    await server
      .client()
      .call('ACL', 'SETUSER', 'blind', 'on', '>pw', '~*', '&*', '+@all', '-info', '-config', '-time');
    const { report } = await examine(server, `unix://blind:pw@localhost${server.socketPath}`);
    expect(wrong(report)).toEqual(['redis.permissions of redis: fault']);
    for (const id of ['redis.version', 'redis.eviction', 'redis.durability', 'redis.clock']) {
      expect([id, verdictOf(report, id)]).toEqual([id, 'notChecked']);
    }
  });

  test('a wrong password, and a Redis that is not there', async () => {
    const server = await redis();
    await server.client().call('ACL', 'SETUSER', 'known', 'on', '>pw', '~*', '+@all');
    const refused = await examine(server, `unix://known:wrong@localhost${server.socketPath}`);
    expect(found(refused.report, 'redis.reach')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('WRONGPASS'),
      remedy: expect.stringContaining('REDIS_URL'),
    });
    const away = await examine(server, 'redis://127.0.0.1:1');
    expect(away.code).toBe(1);
    expect(found(away.report, 'redis.reach')).toMatchObject({
      verdict: 'fault',
      remedy: expect.stringContaining('start it'),
    });
  });

  test('its clock is half a minute ahead', async () => {
    const server = await redis();
    const socket = place.path('relay.sock');
    const relay = new TimeRelay(socket, server.socketPath, 30);
    try {
      await relay.ready();
      const { code, report } = await examine(server, `unix://${socket}`);
      expect(code).toBe(1);
      expect(found(report, 'redis.clock')).toMatchObject({
        found: expect.stringMatching(/30s behind Redis|29\.\ds behind Redis/),
        remedy: expect.stringContaining('NTP'),
      });
    } finally {
      relay.close();
    }
  });
});

describeWith(['redis'], 'workers that differ', () => {
  /** Writes a heartbeat as a worker would, until it is ended. */
  const beating = (server: RedisServer, worker: WorkerPresence, aheadMs: number) => {
    const stop = new AbortController();
    const presence = new Presence(new RedisCellStore(server.client(), fleetPrefix('small')));
    const run = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        const about = worker.about === undefined ? {} : { about: { ...worker.about, beatAtMs: Date.now() + aheadMs } };
        await presence.beat({ ...worker, ...about });
        await abortableSleep(300, stop.signal);
      }
    };
    const running = run();
    return async (): Promise<void> => {
      stop.abort();
      await running;
    };
  };

  test('another fleet file, another version, another time, and one that tells neither', async () => {
    place.fleet(smallFleet());
    const { fleet } = loadFleet({ path: place.fleetFile });
    const server = await redis();
    const common = { operations: false, fleetHash: fleetHash(fleet) };
    const about = { hostname: 'far', beatAtMs: 0, version: '0.0.1' };
    const ends = [
      beating(server, { ...common, id: 'one', pid: 11, hosts: ['node-a'], fleetHash: 'abcdef0123456789', about }, 0),
      beating(
        server,
        { ...common, id: 'two', pid: 12, hosts: ['node-b'], about: { ...about, hostname: 'late' } },
        -8_000,
      ),
      beating(server, { ...common, id: 'old', pid: 13, hosts: ['node-c'] }, 0),
    ];
    try {
      const presence = new Presence(new RedisCellStore(server.client(), fleetPrefix('small')));
      await until(async () => (await presence.alive()).length === 3, 10_000, 'three workers');
      const { code, report } = await place.doctor([], { env: { REDIS_URL: server.url } });
      expect(code).toBe(1);
      expect(found(report, 'workers.fleet', 'worker far/11')).toMatchObject({
        verdict: 'fault',
        found: expect.stringMatching(
          /serves node-a; its fleet file is another one \(abcdef0123456789, here [0-9a-f]{16}\)/,
        ),
        remedy: expect.stringContaining('same fleet file'),
      });
      expect(verdictOf(report, 'workers.fleet', 'worker late/12')).toBe('ok');
      expect(found(report, 'workers.version', 'worker far/11').found).toMatch(/^version 0\.0\.1, here /);
      expect(found(report, 'workers.version', 'worker 13')).toMatchObject({ verdict: 'warning' });
      expect(verdictOf(report, 'workers.clock', 'worker far/11')).toBe('ok');
      expect(found(report, 'workers.clock', 'worker late/12')).toMatchObject({
        verdict: 'fault',
        found: expect.stringMatching(/this machine is (8|7\.\d)\ds? ?.*ahead of|this machine is (8|7\.\d)s ahead of/),
      });
      expect(verdictOf(report, 'workers.clock', 'worker 13')).toBe('notChecked');
    } finally {
      await Promise.all(ends.map((end) => end()));
    }
  });
});

describe('a fleet file', () => {
  test('with five faults: all are told, and the rest is looked at all the same', async () => {
    place.fleet(FAULTY_FLEET);
    const { code, report } = await place.doctor();
    expect(code).toBe(1);
    expect(found(report, 'fleet.file')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('5 problems'),
    });
    expect(found(report, 'fleet.file').found).toContain('hosts[0].egress');
    expect(verdictOf(report, 'node.version')).toBe('ok');
  });

  test('that is not there is a fault; a host that it does not have is wrong usage', async () => {
    expect(found((await place.doctor()).report, 'fleet.file').remedy).toContain('--fleet');
    place.fleet(smallFleet());
    const { code, stdout } = await place.command(['doctor', 'node-x', 'node-b', 'no', '-o', 'json']).ended;
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({
      error: { code: 'unknownHost', problems: [{ value: '"node-x"' }, { value: '"no"' }] },
    });
  });
});

describeWith(['qemu'], 'hosts of bare QEMU', () => {
  test('an old QEMU in PATH, no run directory, and more memory than there is', async () => {
    const runDir = place.runDir('a');
    place.fleet(
      fleetText([qemuHost('a', { runDir, memory: '999TiB' }), qemuHost('b', { runDir: place.path('nowhere') })]),
    );
    const old = '#!/bin/sh\necho "QEMU emulator version 7.2.9 (Debian 1:7.2+dfsg-7+deb12u6)"\n';
    const PATH = place.bin(['setpriv', 'flock', 'redis-server', 'sh'], { 'qemu-system-x86_64': old });
    const { code, report } = await place.doctor([], { env: { PATH } });
    expect(code).toBe(1);
    expect(found(report, 'qemu.version', 'a')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('QEMU 7.2.9'),
      remedy: expect.stringContaining('9.0 or later'),
    });
    expect(found(report, 'qemu.runDir', 'b').remedy).toBe(`make it: mkdir -p ${place.path('nowhere')}`);
    expect(found(report, 'host.size', 'a')).toMatchObject({
      verdict: 'fault',
      remedy: expect.stringContaining('less than'),
    });
  });

  test('no QEMU at all, and nothing to start a Redis with', async () => {
    place.fleet(fleetText([qemuHost('a', { runDir: place.runDir('a') })]));
    const { report } = await place.doctor([], { env: { PATH: place.bin([]) } });
    expect(found(report, 'qemu.version')).toMatchObject({
      verdict: 'fault',
      found: 'qemu-system-x86_64 is not in PATH',
      remedy: expect.stringContaining('install QEMU'),
    });
    expect(found(report, 'redis.reach')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('lacks redis-server, setpriv, flock'),
    });
  });

  test('a binary that a VM names is the one that is asked', async () => {
    const runDir = place.runDir('a');
    const bin = place.bin([], { 'my-qemu': '#!/bin/sh\necho "QEMU emulator version 8.1.0"\n' });
    mkdirSync(`${runDir}/vm-1`);
    const definition = { name: 'vm-1', memory: '64MiB', cpus: 1, argv: ['-m', '64'], binary: `${bin}/my-qemu` };
    writeFileSync(`${runDir}/vm-1/vm.json`, JSON.stringify(definition));
    place.fleet(fleetText([qemuHost('a', { runDir })]));
    const { report } = await place.doctor();
    expect(found(report, 'qemu.version').found).toContain('QEMU 8.1.0');
  });

  test('addresses that are not resolved or not here, and ports that are all taken', async () => {
    const holder = createServer().listen(53_990, '127.0.0.1');
    await until(() => holder.listening, 5_000, 'a taken port');
    try {
      const hosts = [
        qemuHost('a', { runDir: place.runDir('a'), ports: '53990-53990' }),
        qemuHost('b', { runDir: place.runDir('b'), address: 'no-such-host.invalid' }),
        qemuHost('c', { runDir: place.runDir('c'), address: '198.51.100.7' }),
      ];
      place.fleet(fleetText(hosts));
      const { report } = await place.doctor();
      expect(found(report, 'network.name', 'b')).toMatchObject({
        verdict: 'fault',
        found: expect.stringContaining('no-such-host.invalid is not resolved'),
        remedy: expect.stringContaining('/etc/hosts'),
      });
      expect(found(report, 'network.port', 'b -> a')).toMatchObject({
        verdict: 'fault',
        found: expect.stringContaining('all ports 53990-53990'),
        remedy: expect.stringContaining('other ports'),
      });
      expect(found(report, 'network.port', 'a -> c')).toMatchObject({
        verdict: 'fault',
        found: expect.stringContaining('198.51.100.7 is not an address of c'),
      });
    } finally {
      holder.close();
    }
  });
});

describe('hosts of libvirt', () => {
  test('without virsh in PATH nothing can be asked', async () => {
    place.fleet(fleetText([libvirtHost('a', 'qemu:///system', '127.0.0.1')]));
    const { code, report } = await place.doctor([], { env: { PATH: place.bin(['setpriv', 'flock', 'redis-server']) } });
    expect(code).toBe(1);
    expect(found(report, 'libvirt.virsh')).toMatchObject({
      verdict: 'fault',
      found: 'virsh is not in PATH',
      remedy: expect.stringContaining('libvirt-clients'),
    });
    expect(report.findings.filter(({ id }) => id === 'libvirt.daemon')).toEqual([]);
  });

  test('a libvirtd that does not answer, one that is too old, and a closed port', async () => {
    const virsh = `#!/bin/sh
case "$*" in
  --version) echo 11.3.0 ;;
  *127.0.0.2*version*) printf 'Running hypervisor: QEMU 2.11.1\\nRunning against daemon: 4.0.0\\n' ;;
  *127.0.0.2*capabilities*) echo "<domain type='kvm'/>" ;;
  *127.0.0.2*nodeinfo*) printf 'CPU(s):              4\\nMemory size:         131072 KiB\\n' ;;
  *) echo "error: failed to connect to the hypervisor" >&2; echo "error: unable to connect to server at '127.0.0.1:53991': Connection refused" >&2; exit 1 ;;
esac
`;
    const hosts = [
      libvirtHost('a', 'qemu+tcp://127.0.0.1:53991/system', '127.0.0.1'),
      libvirtHost('b', 'qemu+tcp://127.0.0.2:53991/system', '127.0.0.2'),
    ];
    place.fleet(fleetText(hosts));
    const { report } = await place.doctor([], { env: { PATH: place.bin(['sh'], { virsh }) } });
    expect(found(report, 'libvirt.daemon', 'a')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('Connection refused'),
      remedy: expect.stringContaining('let it listen'),
    });
    expect(found(report, 'libvirt.daemon', 'b').found).toContain('QEMU 2.11.1');
    expect(verdictOf(report, 'libvirt.daemon', 'b')).toBe('fault');
    expect(found(report, 'host.size', 'b').found).toContain('the machine has 128MiB and 4 cpus');
    expect(found(report, 'libvirt.peer', 'here -> a')).toMatchObject({
      verdict: 'fault',
      found: '127.0.0.1 port 53991 refuses connections',
      remedy: expect.stringContaining('peerUri'),
    });
  });
});

describe('directories', () => {
  test('a state directory that is a file', async () => {
    place.fleet(smallFleet());
    rmSync(place.stateDir, { recursive: true });
    writeFileSync(place.stateDir, '');
    const { code, report } = await place.doctor();
    expect(code).toBe(1);
    expect(found(report, 'state.directory')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('not a directory'),
    });
    expect(verdictOf(report, 'state.journal')).toBe('notChecked');
  });
});

describeWith(['root'], 'a machine that does not let this user', () => {
  /** A copy of Node's and of the program's may lie where nobody else may go. */
  const asNobody = { within: NOBODY };

  test('write its state directory, or make groups: both are told, with whom to run it as', async () => {
    place.healthyFleet();
    chmodSync(place.path('a'), 0o755);
    const { code, report } = await place.doctor([], asNobody);
    expect(code).toBe(1);
    expect(found(report, 'state.directory')).toMatchObject({
      verdict: 'fault',
      found: expect.stringMatching(/may not be (read|written) by this user/),
      remedy: expect.stringContaining('chown'),
    });
    expect(found(report, 'throttle.rights')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('user 65534 may not make groups'),
      remedy: expect.stringContaining('hostevac-guard.service'),
    });
    expect(found(report, 'throttle.guard')).toMatchObject({
      verdict: 'fault',
      remedy: expect.stringContaining('run hostevac as root'),
    });
    expect(found(report, 'qemu.runDir', 'a').found).toContain('may not be written');
  });

  test('write because the disk is full, or mounted read-only', async () => {
    const runDir = place.runDir('a');
    place.fleet(fleetText([qemuHost('a', { runDir })]));
    const script = `mount -t tmpfs -o size=64k none ${place.stateDir}; dd if=/dev/zero of=${place.stateDir}/x bs=1k count=60 2>/dev/null
mount -t tmpfs none ${runDir}; mount -o remount,ro ${runDir}; exec "$@"`;
    const within = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh'];
    const { code, report } = await place.doctor([], { within });
    expect(code).toBe(1);
    expect(found(report, 'state.directory')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('as good as full'),
      remedy: expect.stringContaining('df -h'),
    });
    expect(found(report, 'qemu.runDir', 'a')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('mounted read-only'),
      remedy: expect.stringContaining('ReadWritePaths'),
    });
  });
});

describeWith(['qemu'], 'a guard that is to be a service', () => {
  test('and does not run: no other one stands in for it', async () => {
    place.healthyFleet();
    mkdirSync(`${place.stateDir}/guard`);
    writeFileSync(`${place.stateDir}/guard/service`, '');
    const { code, report } = await place.doctor();
    expect(code).toBe(1);
    expect(found(report, 'throttle.guard')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('does not run'),
      remedy: expect.stringContaining('systemctl start hostevac-guard'),
    });
  });
});

describe('its surroundings', () => {
  test('a clock that nobody keeps is a warning', async () => {
    place.fleet(smallFleet());
    const PATH = place.bin(['sh', 'setpriv', 'flock', 'redis-server'], { timedatectl: '#!/bin/sh\necho no\n' });
    const { code, report } = await place.doctor([], { env: { PATH } });
    expect(code).toBe(0);
    expect(found(report, 'clock.kernel')).toMatchObject({
      verdict: 'warning',
      remedy: expect.stringContaining('set-ntp'),
    });
  });

  test('a program that hangs holds nothing up for ever, and Ctrl-C ends it', async () => {
    place.fleet(fleetText([libvirtHost('a', 'qemu:///system', '127.0.0.1')]));
    const PATH = place.bin(['sleep'], { virsh: '#!/bin/sh\nexec sleep 600\n' });
    symlinkSync('/bin/sh', `${PATH}/sh`);
    const command = place.command(['doctor'], { PATH });
    await until(() => command.stderr.includes('libvirt ...'), 20_000, 'the step that hangs');
    command.child.kill('SIGINT');
    expect(await command.ended).toMatchObject({ code: 130, stdout: '' });
  });
});
