/**
 * The fleets on which emptying hosts is measured in virtual time: a few lines in a file of scenarios/, from which hosts,
 * guests and what is to be emptied are drawn, the same from the same seed. Pure but for the reading.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { rateOrZeroText, rateText, share, sizeText } from '../../../src/domain/units.ts';
import { Random } from '../../simulation/random.ts';
import { type FleetInput, host, vm } from '../../support/world.ts';

const MIB = 2 ** 20;
/** Less is no guest. */
const SMALLEST_SET = 4 * MIB;

/** From, to. */
const range = <T extends z.ZodType<number, unknown>>(of: T) => z.tuple([of, of]);
const part = z.number().min(0).max(1);

const kindSchema = z.strictObject({
  /** How many of such there are, beside the other kinds. */
  weight: z.number().positive(),
  memory: z.array(sizeText).min(1),
  cpus: z.int().min(1),
  /** Of its memory. */
  touched: range(part),
  dirtyRate: range(rateOrZeroText),
  /** Of what it has touched. */
  workingSet: range(part),
  cpuUse: range(share),
});

const scenarioSchema = z.strictObject({
  title: z.string(),
  racks: z.strictObject({
    count: z.int().min(1),
    hosts: z.int().min(1),
    /** Between the racks; without: as much as anybody sends. */
    uplink: rateText.optional(),
  }),
  host: z.strictObject({ egress: rateText, ingress: rateText, cpus: z.int(), memory: sizeText }),
  /** Part of each host's memory that guests have. */
  fill: range(part),
  guests: z.array(kindSchema).min(1),
  /** The first hosts of the first racks. */
  evacuate: z.strictObject({ racks: z.int().min(1), hosts: z.int().min(1) }),
});
type Spec = z.output<typeof scenarioSchema>;
type Kind = Spec['guests'][number];

export interface Scenario {
  readonly name: string;
  readonly title: string;
  readonly seed: number;
  readonly fleet: FleetInput;
  /** Hosts to be emptied, all at once. */
  readonly evacuate: readonly string[];
}

/** All there are, by name. */
export function scenarioNames(folder: string): string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => file.slice(0, -'.yaml'.length))
    .sort();
}

/** Throws what is wrong with the file. */
export function readScenario(folder: string, name: string, seed: number): Scenario {
  const spec = scenarioSchema.parse(parse(readFileSync(join(folder, `${name}.yaml`), 'utf8')));
  return { name, title: spec.title, seed, fleet: fleetOf(spec, seed), evacuate: evacuated(spec) };
}

const hostName = (rack: number, at: number): string => `r${rack + 1}-h${at + 1}`;
const rackName = (rack: number): string => `rack${rack + 1}`;

function evacuated({ evacuate }: Spec): string[] {
  return Array.from({ length: evacuate.racks }, (_, rack) =>
    Array.from({ length: evacuate.hosts }, (__, at) => hostName(rack, at)),
  ).flat();
}

function fleetOf(spec: Spec, seed: number): FleetInput {
  const random = new Random(seed, 'fleet');
  const { racks } = spec;
  const hosts: FleetInput['hosts'] = [];
  for (let rack = 0; rack < racks.count; rack += 1) {
    for (let at = 0; at < racks.hosts; at += 1) {
      const name = hostName(rack, at);
      const links = racks.uplink === undefined ? {} : { links: [rackName(rack)] };
      hosts.push(host(name, guestsOf(spec, name, random), { ...spec.host, ...links }));
    }
  }
  const { uplink } = racks;
  const links =
    uplink === undefined
      ? []
      : Array.from({ length: racks.count }, (_, rack) => ({
          name: rackName(rack),
          capacity: uplink,
          uplink: true,
        }));
  return { hosts, links, simulation: { seed } };
}

/** Until the next does not fit into what guests have of this host. */
function guestsOf(spec: Spec, on: string, random: Random): ReturnType<typeof vm>[] {
  let leftBytes = spec.host.memory * random.between(...spec.fill);
  let leftCpus = spec.host.cpus;
  const guests: ReturnType<typeof vm>[] = [];
  for (;;) {
    const kind = drawn(spec.guests, random);
    const memory = random.one(kind.memory);
    if (memory > leftBytes || kind.cpus > leftCpus) return guests;
    leftBytes -= memory;
    leftCpus -= kind.cpus;
    const touched = memory * random.between(...kind.touched);
    guests.push(
      vm(`${on}-vm${guests.length + 1}`, {
        memory,
        touched: Math.round(touched),
        cpus: kind.cpus,
        dirtyRate: Math.round(random.between(...kind.dirtyRate)),
        workingSet: Math.round(Math.max(SMALLEST_SET, touched * random.between(...kind.workingSet))),
        cpuUse: random.between(...kind.cpuUse),
      }),
    );
  }
}

function drawn(kinds: readonly Kind[], random: Random): Kind {
  let point = random.next() * kinds.reduce((sum, { weight }) => sum + weight, 0);
  const found = kinds.find(({ weight }) => {
    point -= weight;
    return point < 0;
  });
  return found ?? random.one(kinds);
}
