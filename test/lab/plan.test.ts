/** The lab on paper: who is where, the fleet file, and options that are refused. */
import { describe, expect, test } from 'vitest';
import { labUpOptions } from '../../src/cli/lab-options.ts';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { qemuVersion } from '../../src/lab/guests.ts';
import { fleetText, type LabOptions, MOST_GUESTS, MOST_HOSTS, planLab } from '../../src/lab/plan.ts';
import { availableBytes, refuseTooMuch } from '../../src/lab/start.ts';

const MIB = 2 ** 20;
const OPTIONS: LabOptions = {
  hosts: 3,
  guests: 5,
  profiles: ['idle', 'mild', 'hot', 'big'],
  egressBytesPerSec: 40 * MIB,
  network: false,
  spread: false,
};

describe('a lab', () => {
  test('has all guests on its first host, profiles in turn, each name once', () => {
    const { guests, hosts } = planLab(OPTIONS, '/place', 'abcd');
    expect(hosts.map(({ name }) => name)).toEqual(['lab-a', 'lab-b', 'lab-c']);
    expect(guests.map(({ name, host }) => `${name}@${host}`)).toEqual([
      'idle-1@lab-a',
      'mild-1@lab-a',
      'hot-1@lab-a',
      'big-1@lab-a',
      'idle-2@lab-a',
    ]);
  });

  test('spreads them on request', () => {
    const { guests } = planLab({ ...OPTIONS, spread: true }, '/place', 'abcd');
    expect(guests.map(({ host }) => host)).toEqual(['lab-a', 'lab-b', 'lab-c', 'lab-a', 'lab-b']);
  });

  test.each([false, true])('of the largest size has a valid fleet file (network: %s)', (network) => {
    const options = { ...OPTIONS, hosts: MOST_HOSTS, guests: MOST_GUESTS, network };
    const plan = planLab(options, '/home/somebody/.local/state/hostevac/lab-that-is-lon', 'abcd');
    const text = fleetText(plan, options.egressBytesPerSec);
    const fleet = parseFleet(text, { format: 'yaml', name: 'fleet.yaml' });
    expect(fleet.name).toBe('lab-abcd');
    expect(fleet.hosts.map(({ egress }) => egress)).toEqual(plan.hosts.map(() => 40 * MIB));
    const settings = fleet.hosts.map((host) => (host.driver === 'qemu' ? host.qemu : null));
    expect(settings.map((qemu) => qemu?.runDir)).toEqual(plan.hosts.map(({ runDir }) => runDir));
    expect(settings.map((qemu) => qemu?.networkNamespace ?? null)).toEqual(
      plan.hosts.map(({ networkNamespace }) => networkNamespace),
    );
    // Hosts share an address without --network, so never a port.
    const ports = settings.flatMap((qemu) => [qemu?.ports.first ?? 0, qemu?.ports.last ?? 0]);
    expect(ports).toEqual([...ports].sort((a, b) => a - b));
    expect(new Set(ports).size).toBe(ports.length);
  });

  test('has hosts that can each carry all guests', () => {
    const plan = planLab({ ...OPTIONS, guests: 8 }, '/place', 'abcd');
    const { hosts } = parseFleet(fleetText(plan, 40 * MIB), { format: 'yaml', name: 'fleet.yaml' });
    const needed = 2 * (128 + 128 + 256 + 1_024) * MIB;
    for (const host of hosts) {
      expect(host.memory * 0.95).toBeGreaterThanOrEqual(needed);
      expect(host.cpus).toBeGreaterThanOrEqual(8);
    }
  });
});

describe('the options of lab up', () => {
  const FLAGS = {
    driver: 'qemu',
    hosts: '3',
    profile: 'idle,mild,hot,big',
    egress: '40MiB/s',
    accel: 'auto',
    fleetFile: '/tmp/no-such-fleet.yaml',
    serve: true,
  };

  test('as they stand without any', () => {
    expect(labUpOptions(FLAGS)).toMatchObject({
      hosts: 3,
      guests: 4,
      profiles: ['idle', 'mild', 'hot', 'big'],
      egressBytesPerSec: 40 * MIB,
      network: false,
      spread: false,
      serve: true,
    });
  });

  test('one guest for each profile named, unless a number is given', () => {
    expect(labUpOptions({ ...FLAGS, profile: 'hot, random' }).guests).toBe(2);
    expect(labUpOptions({ ...FLAGS, profile: 'hot', guests: '6' }).guests).toBe(6);
  });

  test('every fault at once, each with what is possible', () => {
    const flags = { ...FLAGS, hosts: '1', guests: 'many', profile: 'warm', egress: '40', accel: 'xen', fleetFile: 'x' };
    expect(() => labUpOptions(flags)).toThrow(
      /6 problems[\s\S]*--hosts: "1"[\s\S]*2 to 8[\s\S]*--guests: "many"[\s\S]*--profile[\s\S]*idle, mild, hot[\s\S]*--egress[\s\S]*--accel[\s\S]*--fleet-file/,
    );
  });

  test.each([
    ['foo,hot', /--profile: "foo,hot" - there is no profile "foo"; the profiles are idle, mild, hot, /],
    ['hot,midl,foo', /there is no profile "midl", "foo"; did you mean mild\? the profiles are idle, /],
    ['hot,', /there is no profile ""; the profiles are idle, /],
  ])('a profile that does not exist is shown: %s', (profile, message) => {
    expect(() => labUpOptions({ ...FLAGS, profile })).toThrow(message);
  });

  test('a fleet file that cannot be written there, with the other faults', () => {
    const flags = { ...FLAGS, hosts: '1', fleetFile: '/nonexistent/x.yaml' };
    expect(() => labUpOptions(flags)).toThrow(
      /2 problems[\s\S]*--hosts: "1"[\s\S]*--fleet-file: "\/nonexistent\/x\.yaml" - cannot be written: .*no such .*'\/nonexistent'; name a file/,
    );
  });
});

describe('the memory that a lab needs', () => {
  const { guests } = planLab({ ...OPTIONS, guests: 1, profiles: ['idle'] }, '/place', 'abcd');

  test('is compared with what is available', () => {
    const available = availableBytes('MemTotal:       8000000 kB\nMemAvailable:    2097152 kB\nBuffers: 1 kB\n');
    expect(available).toBe(2 * 2 ** 30);
    expect(() => refuseTooMuch(guests, 2 * 2 ** 30, false)).not.toThrow();
    expect(() => refuseTooMuch(guests, 128 * MIB, false)).toThrow(
      /1 guests? need.*224MiB.*128MiB are available.*--guests/,
    );
    expect(() => refuseTooMuch(guests, 300 * MIB, false)).not.toThrow();
    expect(() => refuseTooMuch(guests, 300 * MIB, true)).toThrow(/need up to 416MiB/);
  });

  test('is known not to be comparable where that is not said', () => {
    expect(availableBytes('MemTotal:       8000000 kB\n')).toBeNull();
  });
});

test('a machine without QEMU is told what to install', async () => {
  await expect(qemuVersion('/nowhere')).rejects.toMatchObject({
    code: 'labUnfit',
    message: expect.stringMatching(/qemu-system-x86_64 is not in PATH.*apt-get install/),
  });
});
