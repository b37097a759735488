/** Doctor on a real network: namespaces with limited links between them, one that is slower than promised, one that is cut. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cutLink, type LabNetwork, makeNetwork, removeNetwork } from '../../src/lab/network.ts';
import { describeWith } from '../support/needs.ts';
import { RedisServer } from '../support/redis-server.ts';
import { DoctorPlace, fleetText, found, qemuHost, verdictOf, wrong } from './place.ts';

const MIB = 2 ** 20;

describeWith(['root', 'netns', 'qemu', 'cgroup', 'redis'], 'doctor on a network of namespaces', () => {
  let place: DoctorPlace;
  let network: LabNetwork;
  beforeEach(() => {
    place = new DoctorPlace();
    const id = process.pid.toString(16).padStart(4, '0');
    const hosts = ['a', 'b'].map((letter, index) => ({
      name: letter,
      runDir: place.runDir(letter),
      migrationAddress: `10.213.0.${index + 1}`,
      ports: { first: 53_152, last: 53_155 },
      networkNamespace: `hevlab-${id}-${letter}`,
    }));
    network = { id, hosts };
  });
  afterEach(async () => {
    await place.close();
    await removeNetwork(network.id);
  });

  const promise = (egress: string): void => {
    const hosts = network.hosts.map(({ name, runDir, migrationAddress, networkNamespace }) =>
      qemuHost(name, {
        runDir,
        ports: '53152-53155',
        address: migrationAddress,
        namespace: networkNamespace ?? '',
        egress,
      }),
    );
    place.fleet(fleetText(hosts));
  };

  test('a link that carries what the fleet file says is found well, and told with its rate', async () => {
    await makeNetwork(network, 20 * MIB);
    promise('20MiB/s');
    const { code, report, stderr } = await place.doctor(['--bandwidth']);
    expect(wrong(report)).toEqual([]);
    expect(code).toBe(0);
    for (const way of ['a -> b', 'b -> a']) {
      expect(verdictOf(report, 'network.port', way)).toBe('ok');
      const { verdict, found: words } = found(report, 'network.bandwidth', way);
      const rate = Number(/^([\d.]+)MiB\/s free/.exec(words)?.[1]);
      expect([way, verdict, rate > 18 && rate < 23]).toEqual([way, 'ok', true]);
    }
    expect(stderr).toContain('measuring a -> b');
  });

  test('a link of a tenth of what is promised is a fault, with both rates; without --bandwidth nothing is sent', async () => {
    await makeNetwork(network, 8 * MIB);
    promise('80MiB/s');
    const { code, report } = await place.doctor(['a', '--bandwidth']);
    expect(code).toBe(1);
    expect(wrong(report)).toEqual(['network.bandwidth of a -> b: fault']);
    expect(found(report, 'network.bandwidth')).toMatchObject({
      found: expect.stringMatching(/^(8|9)(\.\d)?MiB\/s free, the fleet file promises 80MiB\/s$/),
      remedy: expect.stringContaining('lower egress and ingress'),
    });
    const unmeasured = await place.doctor();
    expect(unmeasured.report.findings.filter(({ id }) => id === 'network.bandwidth')).toEqual([]);
    expect(unmeasured.code).toBe(0);
  });

  test('a link on which every packet is lost: no port is reached, in either direction', async () => {
    await makeNetwork(network, 20 * MIB);
    await cutLink(network, 'b');
    promise('20MiB/s');
    const { code, report } = await place.doctor();
    expect(code).toBe(1);
    for (const way of ['a -> b', 'b -> a']) {
      expect(found(report, 'network.port', way)).toMatchObject({
        verdict: 'fault',
        found: expect.stringContaining('cannot be reached (ETIMEDOUT)'),
        remedy: expect.stringContaining('firewalls'),
      });
    }
  });

  test('a namespace that is not there', async () => {
    await makeNetwork(network, 20 * MIB);
    const [a] = network.hosts;
    const gone = qemuHost('b', { runDir: place.path('b'), address: '10.213.0.2', namespace: 'hevlab-none' });
    place.fleet(
      fleetText([
        qemuHost('a', { runDir: place.path('a'), address: '10.213.0.1', namespace: a?.networkNamespace ?? '' }),
        gone,
      ]),
    );
    const { report } = await place.doctor(['b']);
    expect(found(report, 'network.port', 'a -> b')).toMatchObject({
      verdict: 'fault',
      found: expect.stringContaining('hevlab-none'),
      remedy: expect.stringContaining('networkNamespace'),
    });
  });

  test('a Redis over the network without TLS or password is a warning', async () => {
    await makeNetwork(network, 20 * MIB);
    promise('20MiB/s');
    const inside = (letter: string) => ['nsenter', `--net=/run/netns/hevlab-${network.id}-${letter}`, '--'];
    const settings = ['--port', '53990', '--bind', '10.213.0.1', '--protected-mode', 'no'];
    const server = await RedisServer.start(settings, inside('a'));
    try {
      const env = { REDIS_URL: 'redis://10.213.0.1:53990' };
      const { report } = await place.doctor([], { env, within: inside('b') });
      expect(found(report, 'redis.transport')).toMatchObject({
        verdict: 'warning',
        found: expect.stringMatching(/not encrypted.*no password/),
        remedy: expect.stringContaining('rediss://'),
      });
      const near = await place.doctor([], { env, within: inside('a') });
      expect(verdictOf(near.report, 'redis.transport')).toBe('ok');
    } finally {
      await server.close();
    }
  });
});
