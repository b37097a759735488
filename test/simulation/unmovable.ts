/**
 * Lives in which some guests cannot be migrated, for a while or always, and evacuations that say what is then done with them.
 * Drawn from a stream of its own: all other lives stay what they were.
 */
import { NON_MIGRATABLE_LABEL, treatments } from '../../src/domain/non-migratable.ts';
import type { FleetInput } from '../support/world.ts';
import { Random } from './random.ts';
import { type Planned, type Scenario, TROUBLE_MS } from './scenario.ts';

const WHY = 'a host device is attached';
const LIVES = 0.4;
/** Shutting down more often than not: it is what can do harm. */
const CHOICES = ['block', 'skip', 'shutdown', 'shutdown', 'shutdown', 'label', 'label'] as const;

export function withUnmovable(scenario: Scenario): Scenario {
  const random = new Random(scenario.seed, 'unmovable');
  if (!random.happens(LIVES)) return scenario;
  const labels = new Map<string, string | null>();
  const changes: Planned[] = [];
  const hosts = scenario.fleet.hosts.map((host): FleetInput['hosts'][number] => {
    if (host.driver !== 'simulated') return host;
    const vms = host.simulated.vms.map((vm) => {
      const label = random.happens(0.5) ? random.one(treatments) : null;
      labels.set(vm.name, label);
      const isFixed = random.happens(0.5);
      for (let left = random.whole(0, 2); left > 0; left -= 1) {
        const fault = { kind: 'vmChanges', vm: vm.name, notMigratable: random.happens(0.5) ? WHY : null } as const;
        changes.push({ atMs: random.whole(1_000, TROUBLE_MS), act: { kind: 'fault', fault } });
      }
      return {
        ...vm,
        ...(label === null ? {} : { labels: { [NON_MIGRATABLE_LABEL]: label } }),
        ...(isFixed ? { notMigratable: WHY } : {}),
        ...(random.happens(0.3) ? { ignoresShutdown: true } : {}),
      };
    });
    return { ...host, simulated: { vms } };
  });
  const asked = new Set<string>();
  const acts = [...scenario.acts, ...changes].map((planned): Planned => {
    if (planned.act.kind !== 'evacuate') return planned;
    const nonMigratable = random.one(CHOICES);
    asked.add(nonMigratable);
    return { ...planned, act: { ...planned.act, terms: { ...planned.act.terms, nonMigratable } } };
  });
  const mayShutDown = [...labels].flatMap(([vm, label]) => {
    const may =
      label === 'shutdown' ? asked.has('shutdown') || asked.has('label') : label === null && asked.has('shutdown');
    return may ? [vm] : [];
  });
  return {
    ...scenario,
    fleet: { ...scenario.fleet, hosts },
    acts: acts.sort((one, other) => one.atMs - other.atMs),
    mayShutDown: new Set(mayShutDown),
  };
}
