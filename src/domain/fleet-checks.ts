/**
 * What a fleet file must satisfy between its parts: names that are unique, names that exist, VMs that fit. It reads the
 * raw value leniently, so that these faults are reported together with the schema's; what the schema refuses is
 * left out here, and so is every conclusion that would rest on it.
 */
import type { z } from 'zod';
import { hostSchema } from './fleet.ts';
import { entityName } from './names.ts';
import { policyName, policyNames } from './policy.ts';
import { type LocatedProblem, printPath, printValue } from './problems.ts';
import { valueAt } from './schema-keys.ts';
import { nearest } from './suggest.ts';
import { formatSize, sizeText } from './units.ts';
import { webhookSchema } from './webhook.ts';

type Path = readonly PropertyKey[];

/** A value that its schema accepts, with its place; `parsed` is undefined where it does not. */
interface Read<T> {
  readonly at: Path;
  readonly raw: unknown;
  readonly parsed: T | undefined;
}

interface VmSketch {
  readonly name: Read<string>;
  readonly memory: Read<number>;
  readonly touched: Read<number>;
  readonly workingSets: readonly Read<number>[];
  readonly shutOff: boolean;
}

interface HostSketch {
  readonly name: Read<string>;
  readonly driver: Read<string>;
  readonly memory: Read<number>;
  readonly links: readonly Read<string>[];
  readonly vms: readonly VmSketch[];
}

/** Drivers the schema knows; a test adds one to see the rules for mixed fleets. */
const DRIVERS: readonly string[] = hostSchema.options.map((option) => option.shape.driver.value);

/** Every fault between the parts of a fleet file's value, parsed or not. */
export function fleetFaults(root: unknown, drivers: readonly string[] = DRIVERS): LocatedProblem[] {
  const hosts = each(root, ['hosts']).map((at) => sketchHost(root, at, drivers));
  const links = each(root, ['links']).map((at) => read(root, [...at, 'name'], entityName));
  const hostNames = known(
    hosts.map((host) => host.name),
    'host',
  );
  const vmNames = known(
    hosts.flatMap((host) => host.vms.map((vm) => vm.name)),
    'VM',
  );
  const linkNames = known(links, 'link');
  // Only a simulated host lists its VMs; the others are asked when they are there.
  const allVmsListed = hosts.every((host) => host.driver.parsed === 'simulated');
  const vms = allVmsListed ? vmNames : undefined;
  return [
    ...duplicates(
      hosts.map((host) => host.name),
      'host',
    ),
    ...duplicates(
      hosts.flatMap((host) => host.vms.map((vm) => vm.name)),
      'VM',
    ),
    ...duplicates(links, 'link'),
    ...hosts.flatMap((host) => [
      ...host.links.flatMap((link) => unknown(link, linkNames)),
      ...duplicates(host.links, 'link'),
    ]),
    ...hosts.flatMap(memoryFaults),
    ...ruleFaults(root, hostNames, vms),
    ...policyFaults(root),
    ...webhookFaults(root),
    ...simulationFaults(root, hosts, hostNames, vmNames),
  ];
}

function sketchHost(root: unknown, at: Path, drivers: readonly string[]): HostSketch {
  const driver = valueAt(root, [...at, 'driver']);
  return {
    name: read(root, [...at, 'name'], entityName),
    driver: {
      at: [...at, 'driver'],
      raw: driver,
      parsed: typeof driver === 'string' && drivers.includes(driver) ? driver : undefined,
    },
    memory: read(root, [...at, 'memory'], sizeText),
    links: each(root, [...at, 'links']).map((link) => read(root, link, entityName)),
    vms: each(root, [...at, 'simulated', 'vms']).map((vm) => ({
      name: read(root, [...vm, 'name'], entityName),
      memory: read(root, [...vm, 'memory'], sizeText),
      touched: read(root, [...vm, 'touched'], sizeText),
      workingSets: [vm, ...each(root, [...vm, 'phases'])].map((owner) =>
        read(root, [...owner, 'workingSet'], sizeText),
      ),
      shutOff: valueAt(root, [...vm, 'state']) === 'shutOff',
    })),
  };
}

function read<T>(root: unknown, at: Path, schema: z.ZodType<T>): Read<T> {
  const raw = valueAt(root, at);
  const result = schema.safeParse(raw);
  return { at, raw, parsed: result.success ? result.data : undefined };
}

/** Paths of the entries of a list; none where there is no list. */
function each(root: unknown, at: Path): Path[] {
  const list = valueAt(root, at);
  return Array.isArray(list) ? list.map((_, index) => [...at, index]) : [];
}

function problem(place: Read<unknown>, message: string, remedy: string): LocatedProblem {
  return { at: place.at, path: printPath(place.at), value: printValue(place.raw), message, remedy };
}

function duplicates(names: readonly Read<string>[], kind: string): LocatedProblem[] {
  const first = new Map<string, Read<string>>();
  return names.flatMap((name) => {
    if (name.parsed === undefined) return [];
    const before = first.get(name.parsed);
    if (before === undefined) {
      first.set(name.parsed, name);
      return [];
    }
    const remedy = kind === 'link' ? 'remove one of them' : `give one of the two ${kind}s another name`;
    return [problem(name, `the same ${kind} as ${printPath(before.at)}`, remedy)];
  });
}

interface Known {
  readonly kind: string;
  readonly names: ReadonlySet<string>;
  /** False: a name could not be read, so a name that is not here may yet be right. */
  readonly complete: boolean;
}

function known(names: readonly Read<string>[], kind: string): Known {
  return {
    kind,
    names: new Set(names.flatMap(({ parsed }) => (parsed === undefined ? [] : [parsed]))),
    complete: names.every(({ parsed }) => parsed !== undefined),
  };
}

function unknown(name: Read<string>, { kind, names, complete }: Known): LocatedProblem[] {
  if (name.parsed === undefined || names.has(name.parsed) || !complete) return [];
  const meant = nearest(name.parsed, names);
  const define =
    kind === 'VM'
      ? 'add the VM to a host, or remove the name'
      : `define the ${kind} under ${kind}s, or remove the name`;
  return [
    problem(name, `no ${kind} of that name`, meant === undefined ? define : `did you mean ${meant}? else ${define}`),
  ];
}

function memoryFaults(host: HostSketch): LocatedProblem[] {
  const faults: LocatedProblem[] = [];
  let needed = 0;
  for (const vm of host.vms) {
    const memory = vm.memory.parsed;
    if (memory === undefined) continue;
    if (!vm.shutOff) needed += memory;
    for (const part of [vm.touched, ...vm.workingSets]) {
      if (part.parsed === undefined || part.parsed <= memory) continue;
      faults.push(
        problem(
          part,
          `more than the VM's memory of ${formatSize(memory)}`,
          `lower it to at most ${formatSize(memory)}, or give the VM more memory`,
        ),
      );
    }
  }
  if (host.memory.parsed !== undefined && needed > host.memory.parsed) {
    const over = formatSize(needed - host.memory.parsed);
    faults.push(
      problem(
        host.memory,
        `its VMs need ${formatSize(needed)}, ${over} more than it has`,
        'give the host more memory, or put VMs on another host',
      ),
    );
  }
  return faults;
}

function ruleFaults(root: unknown, hosts: Known, vms: Known | undefined): LocatedProblem[] {
  return each(root, ['rules']).flatMap((rule) => {
    const names = (key: string) => each(root, [...rule, key]).map((at) => read(root, at, entityName));
    const apart = names('antiAffinity');
    const named = vms === undefined ? [] : [...apart, ...names('pinned')].flatMap((vm) => unknown(vm, vms));
    const twice = duplicates(apart, 'VM').map((fault) => ({ ...fault, remedy: 'name each VM once' }));
    return [...named, ...twice, ...names('hosts').flatMap((host) => unknown(host, hosts))];
  });
}

function policyFaults(root: unknown): LocatedProblem[] {
  const names = each(root, ['policies']).map((policy) => read(root, [...policy, 'name'], policyName));
  const presets: readonly string[] = policyNames;
  const clashes = names.filter(({ parsed }) => parsed !== undefined && presets.includes(parsed));
  return [
    ...clashes.map((name) => problem(name, 'this is the name of a preset', 'give your policy another name')),
    ...duplicates(names, 'policy').map((fault) => ({ ...fault, remedy: 'give one of the two policies another name' })),
  ];
}

function webhookFaults(root: unknown): LocatedProblem[] {
  const all = each(root, ['webhooks']);
  const names = all.map((at) => read(root, [...at, 'name'], webhookSchema.shape.name));
  const twice = duplicates(names, 'webhook');
  const secrets = all.flatMap((at) => {
    const given = ['secretEnv', 'secretFile'].filter((key) => valueAt(root, [...at, key]) !== undefined);
    if (given.length === 1 || typeof valueAt(root, at) !== 'object') return [];
    const [key = 'secretEnv'] = given;
    const place = read(root, given.length === 0 ? at : [...at, key], webhookSchema.shape.name);
    return given.length === 0
      ? [problem({ ...place, raw: undefined }, 'has no secret to sign with', 'add secretEnv or secretFile')]
      : [problem(place, 'there is a secretFile, too', 'keep one of secretEnv and secretFile')];
  });
  const urls = all.flatMap((at) => {
    const url = read(root, [...at, 'url'], webhookSchema.shape.url);
    if (url.parsed === undefined || !/^[^:]+:[/][/][^/]*@/.test(url.parsed)) return [];
    const remedy = 'take them out; receivers know us by the signature';
    // What stands there is not shown: it is a password.
    return [problem({ ...url, raw: '...' }, 'has a user name or password in it', remedy)];
  });
  return [...twice, ...secrets, ...urls];
}

function simulationFaults(
  root: unknown,
  hosts: readonly HostSketch[],
  hostNames: Known,
  vmNames: Known,
): LocatedProblem[] {
  const faults = each(root, ['simulation', 'faults']).flatMap((fault) => {
    const from = read(root, [...fault, 'from'], entityName);
    const to = read(root, [...fault, 'to'], entityName);
    const named = [from, to, read(root, [...fault, 'host'], entityName)].flatMap((host) => unknown(host, hostNames));
    if (to.parsed !== undefined && to.parsed === from.parsed) {
      named.push(problem(to, 'the link of a host to itself', 'name two different hosts'));
    }
    return [...named, ...unknown(read(root, [...fault, 'vm'], entityName), vmNames)];
  });
  const speed = valueAt(root, ['simulation', 'speed']);
  const real = hosts.find((host) => host.driver.parsed !== undefined && host.driver.parsed !== 'simulated');
  if (real !== undefined && typeof speed === 'number' && speed !== 1) {
    faults.push(
      problem(
        { at: ['simulation', 'speed'], raw: speed, parsed: speed },
        `time cannot be scaled: ${printPath(real.driver.at)} is ${String(real.driver.parsed)}`,
        'set it to 1, or make every host simulated',
      ),
    );
  }
  return faults;
}
