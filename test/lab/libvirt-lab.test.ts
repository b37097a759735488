/** The lab's libvirt hosts on paper: what daemons and domains are told, where groups go, and the fleet file. */
import { describe, expect, test } from 'vitest';
import { labUpOptions } from '../../src/cli/lab-options.ts';
import { labStatusLines } from '../../src/cli/lab-text.ts';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { daemonConfig, groupOf, libvirtUri, qemuConfig } from '../../src/lab/libvirt/config.ts';
import { hierarchiesIn } from '../../src/lab/libvirt/control-groups.ts';
import { libvirtFault } from '../../src/lab/libvirt/daemon.ts';
import { type DomainSpec, domainXml } from '../../src/lab/libvirt/domain-xml.ts';
import { toldOf } from '../../src/lab/libvirt/look.ts';
import { fleetText, MOST_GUESTS, MOST_HOSTS, planLab } from '../../src/lab/plan.ts';

const MIB = 2 ** 20;
const OPTIONS = {
  driver: 'libvirt',
  hosts: 2,
  guests: 2,
  profiles: ['idle', 'mild'],
  egressBytesPerSec: 40 * MIB,
  network: false,
  spread: false,
} as const;

function hostsIn(place: string) {
  return planLab(OPTIONS, place, 'abcd').hosts;
}

describe('a guest as a domain', () => {
  const SPEC: DomainSpec = {
    name: 'idle-1',
    uuid: '57ce4b6b-3263-4797-abab-45c21e1ec7de',
    memoryBytes: 128 * MIB,
    preallocates: false,
    vcpus: 2,
    accel: 'tcg',
    emulator: '/usr/bin/qemu-system-x86_64',
    image: '/place/images/idle.img',
    moreDevices: '',
  };

  test('boots from a read-only floppy disk and ends when it breaks', () => {
    const xml = domainXml(SPEC);
    expect(xml).toMatch(/^<domain type='qemu'>\n {2}<name>idle-1<\/name>\n {2}<uuid>57ce4b6b-/);
    expect(xml).toContain("<memory unit='KiB'>131072</memory>");
    expect(xml).toContain('<vcpu>2</vcpu>');
    expect(xml).toMatch(/<disk type='file' device='floppy'>[\s\S]*<readonly\/>\s*<\/disk>/);
    expect(xml).toContain('<on_reboot>destroy</on_reboot>');
    expect(xml).not.toContain('memoryBacking');
    expect(domainXml({ ...SPEC, preallocates: true })).toContain("<memoryBacking><allocation mode='immediate'/>");
    expect(domainXml({ ...SPEC, accel: 'kvm' })).toMatch(/^<domain type='kvm'>/);
  });

  test('may have any name and paths, and more devices as they are', () => {
    const xml = domainXml({
      ...SPEC,
      name: '</name><b & "c">',
      image: "/it's/<here>.img",
      emulator: '/a&b',
      moreDevices: "<rng model='virtio'/>",
    });
    expect(xml).toContain('<name>&lt;/name&gt;&lt;b &amp; &quot;c&quot;&gt;</name>');
    expect(xml).toContain("<source file='/it&apos;s/&lt;here&gt;.img'/>");
    expect(xml).toContain('<emulator>/a&amp;b</emulator>');
    expect(xml).toContain("    <rng model='virtio'/>\n  </devices>");
  });
});

describe('a libvirt host', () => {
  test('listens on its own address only, without authentication, and is none of the others', () => {
    const [a, b] = hostsIn('/place');
    if (a === undefined || b === undefined) throw new Error('two hosts');
    expect(daemonConfig(a, 'some-uuid').split('\n')).toEqual(
      expect.arrayContaining([
        'listen_addr = "10.213.0.1"',
        'listen_tls = 0',
        'auth_tcp = "none"',
        'host_uuid = "some-uuid"',
      ]),
    );
    const lines = qemuConfig(b).split('\n');
    expect(lines).toEqual(
      expect.arrayContaining([
        'security_driver = "none"',
        'cgroup_controllers = ["cpu", "cpuacct"]',
        'namespaces = []',
        'migration_host = "10.213.0.2"',
        'migration_port_min = 49216',
      ]),
    );
    expect([a, b].map(groupOf)).toEqual(['hevlab-abcd-a', 'hevlab-abcd-b']);
  });

  test('is reached by a URI whatever characters its place has', () => {
    const [a] = hostsIn("/tmp/it's a & place?#%");
    expect(a && libvirtUri(a)).toBe(
      "qemu+unix:///system?socket=/tmp/it's%20a%20%26%20place%3F%23%25/lab-a/run/libvirt-sock",
    );
  });

  test.each(['/home/somebody/.local/state/hostevac/lab-that-is-lon', "/it's <a> & place"])(
    'in a lab of the largest size has a valid fleet file: %s',
    (place) => {
      const plan = planLab({ ...OPTIONS, hosts: MOST_HOSTS, guests: MOST_GUESTS }, place, 'abcd');
      const fleet = parseFleet(fleetText(plan, 40 * MIB), { format: 'yaml', name: 'fleet.yaml' });
      expect(fleet.hosts.map(({ driver }) => driver)).toEqual(plan.hosts.map(() => 'libvirt'));
      const settings = fleet.hosts.map((host) => (host.driver === 'libvirt' ? host.libvirt : null));
      expect(settings[1]).toEqual({
        uri: plan.hosts[1] && libvirtUri(plan.hosts[1]),
        peerUri: 'qemu+tcp://10.213.0.2/system',
        networkNamespace: 'hevlab-abcd-b',
        tls: false,
      });
    },
  );
});

describe('the hierarchies of control groups where libvirt puts domains', () => {
  const line = (mountPoint: string, end: string): string => `36 35 0:31 / ${mountPoint} rw,relatime shared:9 - ${end}`;

  test('of v1 apart, with v2 beside them', () => {
    const text = [
      '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw',
      line('/sys/fs/cgroup', 'tmpfs tmpfs rw,mode=755'),
      line('/sys/fs/cgroup/cpu', 'cgroup cgroup rw,cpu'),
      line('/sys/fs/cgroup/cpuacct', 'cgroup cgroup rw,cpuacct'),
      line('/sys/fs/cgroup/cpuset', 'cgroup cgroup rw,cpuset'),
      line('/sys/fs/cgroup/systemd', 'cgroup cgroup rw,name=systemd'),
      line('/sys/fs/cgroup/unified', 'cgroup2 cgroup2 rw'),
      '',
    ].join('\n');
    expect(hierarchiesIn(text)).toEqual([
      { mountPoint: '/sys/fs/cgroup/cpu', type: 'cgroup', options: 'cpu' },
      { mountPoint: '/sys/fs/cgroup/cpuacct', type: 'cgroup', options: 'cpuacct' },
      { mountPoint: '/sys/fs/cgroup/unified', type: 'cgroup2', options: 'rw' },
    ]);
  });

  test('of v1 mounted together and twice, at a path with a space', () => {
    const together = 'cgroup cgroup rw,cpu,cpuacct';
    expect(hierarchiesIn(`${line('/sys/a\\040b', together)}\n${line('/elsewhere', together)}`)).toEqual([
      { mountPoint: '/sys/a b', type: 'cgroup', options: 'cpu,cpuacct' },
    ]);
  });

  test('of v2 alone', () => {
    const text = line('/sys/fs/cgroup', 'cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot');
    expect(hierarchiesIn(text)).toEqual([{ mountPoint: '/sys/fs/cgroup', type: 'cgroup2', options: 'rw' }]);
  });
});

test.each([
  ['running (booted)', null],
  ['running (migrated)', null],
  ['running (post-copy)', 'running'],
  ['paused (user)', null],
  ['paused (migrating)', 'paused (migrating)'],
  ['paused (post-copy failed)', 'paused (post-copy failed)'],
  ['shut off (migrated)', 'shut off'],
  ['crashed (panicked)', 'crashed'],
])('a domain that is %s can be asked itself, or is what libvirt says of it', (words, told) => {
  expect(toldOf(words)).toBe(told);
});

test('lab up takes qemu unless told, and no other than the two', () => {
  const flags = {
    driver: 'libvirt',
    hosts: '2',
    profile: 'idle',
    egress: '40MiB/s',
    accel: 'auto',
    fleetFile: '/tmp/no-such-fleet.yaml',
    serve: true,
  };
  expect(labUpOptions(flags)).toMatchObject({ driver: 'libvirt', hosts: 2 });
  expect(() => labUpOptions({ ...flags, driver: 'xen' })).toThrow(/--driver: "xen" - expected qemu or libvirt/);
});

test('lab status tells of a host that does not answer, and claims nothing about its guests', () => {
  const { driver, hosts, guests, id } = planLab(OPTIONS, '/place', 'abcd');
  const lines = labStatusLines(
    {
      manifest: {
        driver,
        id,
        place: '/place',
        state: 'up',
        starter: { machine: 'here', pid: 1, startTicks: 0 },
        hosts: [...hosts],
        guests: [...guests],
        fleetFile: null,
        up: null,
      },
      serving: false,
      copies: [],
      silent: [{ host: 'lab-a', fault: 'no answer in 40 s' }],
      missing: ['idle-1'],
      doubled: [],
    },
    80,
    (_, text) => text,
  );
  expect(lines).toEqual(
    expect.arrayContaining(['lab-a does not answer: no answer in 40 s', 'not running anywhere that answers: idle-1']),
  );
});

test.skipIf(process.geteuid?.() !== 0)('a machine without libvirt is told what to install', () => {
  expect(libvirtFault('/nowhere', [])).toMatch(
    /^libvirtd is not in PATH; install libvirt: apt-get install .*libvirt-clients/,
  );
});
