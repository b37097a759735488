/** Fleet files: what is right is read, what is wrong is listed, all of it and nothing else. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { HostevacError, type Problem } from '../../src/domain/errors.ts';
import type { Fleet } from '../../src/domain/fleet.ts';
import { fleetFaults } from '../../src/domain/fleet-checks.ts';
import { type FleetFormat, parseFleet } from '../../src/domain/fleet-file.ts';

const read = (text: string, format: FleetFormat = 'yaml'): Fleet =>
  parseFleet(text, { format, name: `fleet.${format}` });

function refusal(text: string, format: FleetFormat = 'yaml'): HostevacError {
  try {
    read(text, format);
  } catch (error) {
    if (error instanceof HostevacError) return error;
    throw error;
  }
  throw new Error('expected the file to be refused');
}

const problems = (text: string, format: FleetFormat = 'yaml'): readonly Problem[] => refusal(text, format).problems;

/** A host of a right file, as one line of YAML. */
function host(name: string, vms = '', extra = ''): string {
  return `  - { name: ${name}, driver: simulated, migrationAddress: 192.0.2.1, egress: 10Gbit/s, ingress: 10Gbit/s, cpus: 8, memory: 32GiB, simulated: { vms: [${vms}] }${extra} }`;
}
function vm(name: string, more = 'memory: 4GiB, workingSet: 1GiB'): string {
  return `{ name: ${name}, cpus: 2, dirtyRate: 10MiB/s, cpuUse: 0.5, ${more} }`;
}
const twoHosts = `hosts:\n${host('a', `${vm('v1')}, ${vm('v2')}`)}\n${host('b')}\n`;

describe('a right file', () => {
  test('units become numbers and defaults are filled in', () => {
    const fleet = read(twoHosts);
    expect(fleet).toMatchObject({ name: 'default', links: [], rules: [], reserve: { memory: 0.05, cpus: 0 } });
    expect(fleet.simulation).toEqual({ seed: 1, speed: 1, faults: [] });
    expect(fleet.hosts[0]).toMatchObject({ egress: 1.25e9, memory: 32 * 2 ** 30 });
  });

  test('JSON says the same as YAML, and may name its schema for an editor', () => {
    const { hosts } = read(twoHosts);
    const json = JSON.stringify({ $schema: 'fleet.schema.json', hosts });
    expect(read(`\uFEFF${json}`, 'json')).toEqual(read(twoHosts));
  });

  test.each(['demo', 'fleet', 'qemu', 'libvirt'])('the example %s.yaml is one', (name) => {
    const fleet = read(readFileSync(new URL(`../../docs/examples/${name}.yaml`, import.meta.url), 'utf8'));
    expect(fleet.hosts.length).toBeGreaterThanOrEqual(2);
  });

  test('the demo is what it promises: sixteen VMs, seven on node-a, three of those busy', () => {
    const fleet = read(readFileSync(new URL('../../docs/examples/demo.yaml', import.meta.url), 'utf8'));
    const vms = fleet.hosts.map((each) => (each.driver === 'simulated' ? each.simulated.vms : []));
    expect(vms.map((each) => each.length)).toEqual([7, 3, 3, 3]);
    const egress = fleet.hosts[0]?.egress ?? 0;
    expect(vms[0]?.filter((each) => each.dirtyRate > egress).map((each) => each.name)).toEqual([
      'postgres-1',
      'redis-1',
    ]);
    expect(vms[0]?.filter((each) => each.phases !== undefined)).toHaveLength(1);
    const fleetSeconds = (vms[0]?.reduce((sum, each) => sum + each.memory, 0) ?? 0) / egress;
    expect(fleetSeconds / fleet.simulation.speed).toBeLessThan(25);
  });
});

describe('five faults', () => {
  const file = `name: prod
hosts:
${host('a', `${vm('v1')}, ${vm('v2', 'memory: 4GiB, workingSet: 6GiB')}`)}
  - name: b
    driver: simulated
    migrationAddress: 192.0.2.2
    egress: 10Gbps
    ingress: 10Gbit/s
    cpu: 8
    memory: 32GiB
    links: [rack1]
    simulated:
      vms:
        - ${vm('v1')}
links:
  - { name: rack-1, capacity: 10Gbit/s }
`;

  test('exactly these five are reported, each with its place, its value and what to do', () => {
    expect(problems(file)).toEqual([
      {
        path: 'hosts[0].simulated.vms[1].workingSet',
        line: 3,
        value: '"6GiB"',
        message: "more than the VM's memory of 4GiB",
        remedy: 'lower it to at most 4GiB, or give the VM more memory',
      },
      {
        path: 'hosts[1].egress',
        line: 7,
        value: '"10Gbps"',
        message: 'expected a rate above zero',
        remedy: 'did you mean 10Gbit/s?',
      },
      { path: 'hosts[1].cpu', line: 9, value: '8', message: 'unknown key', remedy: 'did you mean cpus?' },
      {
        path: 'hosts[1].links[0]',
        line: 11,
        value: '"rack1"',
        message: 'no link of that name',
        remedy: 'did you mean rack-1? else define the link under links, or remove the name',
      },
      {
        path: 'hosts[1].simulated.vms[0].name',
        line: 14,
        value: '"v1"',
        message: 'the same VM as hosts[0].simulated.vms[0].name',
        remedy: 'give one of the two VMs another name',
      },
    ]);
  });

  test('the message names the file and has one line for each', () => {
    const error = refusal(file);
    expect(error.code).toBe('badInput');
    const [first, ...lines] = error.message.split('\n');
    expect(first).toBe('fleet.yaml has 5 problems:');
    expect(lines).toHaveLength(5);
    expect(lines[1]).toBe('  hosts[1].egress (line 7): "10Gbps" - expected a rate above zero; did you mean 10Gbit/s?');
  });
});

describe('what must hold between the parts', () => {
  const only = (text: string) => {
    const found = problems(text);
    expect(found).toHaveLength(1);
    return found[0];
  };

  test('a host name is there once', () => {
    expect(only(`hosts:\n${host('a')}\n${host('a')}\n`)).toMatchObject({
      path: 'hosts[1].name',
      message: 'the same host as hosts[0].name',
    });
  });

  test('a link is defined once and named once', () => {
    const links = 'links: [{ name: l, capacity: 1Gbit/s }, { name: l, capacity: 1Gbit/s }]';
    expect(only(`hosts:\n${host('a', '', ', links: [l]')}\n${links}\n`)).toMatchObject({ path: 'links[1].name' });
    const once = 'links: [{ name: l, capacity: 1Gbit/s }]';
    expect(only(`hosts:\n${host('a', '', ', links: [l, l]')}\n${once}\n`)).toMatchObject({ path: 'hosts[0].links[1]' });
  });

  test('a policy of the fleet has a name of its own', () => {
    const policies = (...names: string[]) =>
      `hosts:\n${host('a', '')}\npolicies: [${names.map((name) => `{ name: ${name}, module: ./x.mjs }`).join(', ')}]\n`;
    expect(read(policies('gentle', 'hard')).policies.map(({ name }) => name)).toEqual(['gentle', 'hard']);
    expect(only(policies('gentle', 'rebalance'))).toMatchObject({
      path: 'policies[1].name',
      message: 'this is the name of a preset',
    });
    expect(only(policies('gentle', 'gentle'))).toMatchObject({
      path: 'policies[1].name',
      message: 'the same policy as policies[0].name',
    });
    expect(only(policies('-1'))).toMatchObject({ path: 'policies[0].name' });
  });

  test('VMs fit into their host; those shut off need no memory', () => {
    const many = Array.from({ length: 9 }, (_, index) => vm(`v${index}`)).join(', ');
    expect(only(`hosts:\n${host('a', many)}\n`)).toMatchObject({
      path: 'hosts[0].memory',
      value: '"32GiB"',
      message: 'its VMs need 36GiB, 4GiB more than it has',
    });
    const off = many.replace('workingSet: 1GiB', 'workingSet: 1GiB, state: shutOff');
    expect(read(`hosts:\n${host('a', off)}\n`).hosts).toHaveLength(1);
  });

  test('touched memory and the working set of each phase are within the memory', () => {
    expect(only(`hosts:\n${host('a', vm('v', 'memory: 4GiB, workingSet: 1GiB, touched: 5GiB'))}\n`)).toMatchObject({
      path: 'hosts[0].simulated.vms[0].touched',
    });
    const phases = 'memory: 4GiB, workingSet: 1GiB, phases: [{ duration: 1s, dirtyRate: 0, workingSet: 5GiB }]';
    expect(only(`hosts:\n${host('a', vm('v', phases))}\n`)).toMatchObject({
      path: 'hosts[0].simulated.vms[0].phases[0].workingSet',
    });
  });

  test('rules name VMs and hosts that are there, and no VM twice', () => {
    expect(only(`${twoHosts}rules: [{ antiAffinity: [v1, v3] }]\n`)).toMatchObject({
      path: 'rules[0].antiAffinity[1]',
      value: '"v3"',
    });
    expect(only(`${twoHosts}rules: [{ antiAffinity: [v1, v1] }]\n`)).toMatchObject({
      path: 'rules[0].antiAffinity[1]',
      remedy: 'name each VM once',
    });
    expect(only(`${twoHosts}rules: [{ pinned: [v9] }]\n`)).toMatchObject({ path: 'rules[0].pinned[0]' });
    expect(only(`${twoHosts}rules: [{ pinned: [v1], hosts: [c] }]\n`)).toMatchObject({
      path: 'rules[0].hosts[0]',
      message: 'no host of that name',
    });
  });

  test('faults name hosts and VMs that are there', () => {
    const fault = (text: string) => only(`${twoHosts}simulation: { faults: [${text}] }\n`);
    expect(fault('{ kind: hostDies, host: c, at: 1s }')).toMatchObject({ path: 'simulation.faults[0].host' });
    expect(fault('{ kind: linkCut, from: a, to: c, at: 1s, duration: 1s }')).toMatchObject({
      path: 'simulation.faults[0].to',
    });
    expect(fault('{ kind: linkCut, from: a, to: a, at: 1s, duration: 1s }')).toMatchObject({
      message: 'the link of a host to itself',
    });
    expect(fault('{ kind: hypervisorError, vm: v7, at: 1s }')).toMatchObject({ path: 'simulation.faults[0].vm' });
  });

  test('under a key that must go, nothing else is counted', () => {
    expect(only(`${twoHosts}rules: [{ antiAffinity: [v1, v2], hosts: [zz] }]\n`)).toMatchObject({
      path: 'rules[0].hosts',
      message: 'unknown key',
    });
  });

  test('nothing is concluded from a name that could not be read', () => {
    // The host is meant to be `c`: that the rule names it is no fault of the rule.
    const text = `hosts:\n${host('a', vm('v1'))}\n${host('c').replace('name: c', 'nmae: c')}\nrules: [{ pinned: [v1], hosts: [c] }]\n`;
    expect(only(text)).toMatchObject({ path: 'hosts[1].nmae', remedy: 'did you mean name?' });
  });

  test('time is scaled and VMs are known beforehand only where every host is simulated', () => {
    const fleet = {
      hosts: [
        { name: 'a', driver: 'simulated' },
        { name: 'b', driver: 'qemu' },
      ],
      rules: [{ pinned: ['anything'] }],
      simulation: { speed: 4 },
    };
    expect(fleetFaults(fleet)).toMatchObject([{ path: 'simulation.speed', value: '4' }]);
    // A driver that the schema refuses is one fault, not two.
    expect(fleetFaults(fleet, ['simulated'])).toEqual([]);
  });
});

describe('text that is no fleet at all', () => {
  test('a YAML fault has its line, its column and the text there', () => {
    expect(problems(`hosts:\n  - name: a\n   cpus: 3\n`)).toMatchObject([
      { path: 'line 3, column 1', value: '"cpus: 3"' },
    ]);
  });

  test('every YAML fault is listed', () => {
    expect(problems('a: "x\nb: [1, 2\nc: }\n').length).toBeGreaterThan(0);
    expect(problems('a: 1\n---\nb: 1\n')).toMatchObject([{ remedy: 'keep one document per file' }]);
  });

  test('a key that stands twice is found in YAML and in JSON, together with the other faults', () => {
    expect(problems(`name: x\nname: y\nhosts: []\n`)).toMatchObject([
      { path: 'line 2, column 1', message: 'this key stands here twice', remedy: 'keep one of the two' },
      { path: 'hosts', message: 'expected at least one host' },
    ]);
    expect(problems('{\n"name": "x",\n"name": "y", "hosts": []}', 'json')).toMatchObject([
      { path: 'line 3, column 1' },
      { path: 'hosts', line: 3 },
    ]);
  });

  test('a JSON fault has its line where the parser tells it', () => {
    expect(problems('{\n "name": "x"\n "hosts": []\n}', 'json')).toMatchObject([{ path: 'line 3, column 2' }]);
    expect(problems('{ "hosts": [', 'json')).toMatchObject([{ path: 'line 1, column 13' }]);
    expect(problems('{ hosts: nope }', 'json')).toHaveLength(1);
  });

  test.each([
    ['', '(root)'],
    ['# nothing but a comment\n', '(root)'],
    ['just text', '(root)'],
    ['- a\n- b\n', '(root)'],
    ['hosts:\n', 'hosts'],
    ['hosts: { a: 1 }\n', 'hosts'],
    ['name: x\n', 'hosts'],
  ])('%j says so', (text, path) => {
    expect(problems(text)).toMatchObject([{ path }]);
  });

  test('aliases that would unfold without end are refused, as is a tag', () => {
    const bomb = [
      'a: &a [x, x, x, x, x, x, x, x, x]',
      ...'bcdefghi'
        .split('')
        .map((key, index) => `${key}: &${key} [${Array(9).fill(`*${'abcdefgh'[index]}`).join(', ')}]`),
    ];
    expect(problems(bomb.join('\n'))).toMatchObject([
      { path: '(root)', remedy: 'write the values out instead of * aliases' },
    ]);
    expect(problems('name: !secret x\nhosts: []\n')[0]).toMatchObject({
      path: 'line 1, column 7',
      remedy: 'remove the ! tag',
    });
  });
});
