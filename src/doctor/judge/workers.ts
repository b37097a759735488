/** What is said of the workers that are alive: same fleet file, same version, same time. Pure. */
import { type Finding, fault, notChecked, ok, warning } from '../finding.ts';
import { judgeClock } from './redis.ts';

export interface WorkerFacts {
  readonly pid: number;
  readonly hosts: readonly string[];
  readonly operations: boolean;
  readonly fleetHash: string;
  readonly version: string | null;
  readonly hostname: string | null;
  /** Clock of this machine minus the worker's; null: it was not seen to write, or tells no time. */
  readonly clock: { readonly aheadMs: number; readonly uncertainMs: number } | null;
}

export interface OwnFacts {
  readonly version: string;
  /** null: there is no fleet file. */
  readonly fleetHash: string | null;
}

export function judgeWorkers(workers: readonly WorkerFacts[], own: OwnFacts): Finding[] {
  if (workers.length === 0) {
    return (['workers.fleet', 'workers.version', 'workers.clock'] as const).map((id) =>
      notChecked(id, 'workers', 'no worker runs', null),
    );
  }
  return workers.flatMap((worker) => [fleetOf(worker, own), versionOf(worker, own), clockOf(worker)]);
}

function nameOf({ pid, hostname }: WorkerFacts): string {
  return hostname === null ? `worker ${pid}` : `worker ${hostname}/${pid}`;
}

function servesOf({ hosts, operations }: WorkerFacts): string {
  const named = hosts.length > 4 ? [...hosts.slice(0, 4), `${hosts.length - 4} more`] : hosts;
  const all = [...(operations ? ['operations'] : []), ...named];
  return all.length === 0 ? 'serves nothing yet' : `serves ${all.join(', ')}`;
}

function fleetOf(worker: WorkerFacts, own: OwnFacts): Finding {
  const subject = nameOf(worker);
  if (own.fleetHash === null)
    return notChecked('workers.fleet', subject, 'there is no fleet file here to compare with');
  if (worker.fleetHash === own.fleetHash) {
    return ok('workers.fleet', subject, `${servesOf(worker)}; fleet file ${own.fleetHash}, as here`);
  }
  return fault(
    'workers.fleet',
    subject,
    `${servesOf(worker)}; its fleet file is another one (${worker.fleetHash}, here ${own.fleetHash}): a worker started here would refuse to work`,
    'copy the same fleet file to every machine, then restart the workers that have the old one, all before the first of the new',
  );
}

function versionOf(worker: WorkerFacts, own: OwnFacts): Finding {
  const subject = nameOf(worker);
  const remedy = 'upgrade all machines to one version; see docs/deploy.md, "Upgrading"';
  if (worker.version === null) {
    return warning('workers.version', subject, `does not tell its version, so it is older than ${own.version}`, remedy);
  }
  if (worker.version === own.version) return ok('workers.version', subject, `version ${own.version}, as here`);
  return warning('workers.version', subject, `version ${worker.version}, here ${own.version}`, remedy);
}

function clockOf(worker: WorkerFacts): Finding {
  const subject = nameOf(worker);
  if (worker.clock === null) return notChecked('workers.clock', subject, 'it was not seen to write its heartbeat');
  return judgeClock('workers.clock', subject, `that worker's machine`, worker.clock);
}
