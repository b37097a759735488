/**
 * What is checked before a request is kept: its form, the hosts and VMs it names. All faults at once; nothing is half
 * kept. Names are checked against what is known; where nothing is known yet (no worker has ever run), the operation says
 * later what it could not find.
 */
import { HostevacError, type Problem } from '../domain/errors.ts';
import { type NonMigratable, SHUTDOWN_TIMEOUT_MS } from '../domain/non-migratable.ts';
import { needsApproval, type OperationRecord } from '../domain/operation.ts';
import { POLICY_PRESETS, type PolicyCatalogue } from '../domain/policy.ts';
import { badInput, MOST_PROBLEMS, parseInput, restProblem } from '../domain/problems.ts';
import {
  type EvacuateNodeInput,
  evacuateNodeInput,
  type LoadBalanceInput,
  loadBalanceInput,
  nonMigratableOf,
  type OperationRequest,
  policiesOf,
} from '../domain/request.ts';
import { nearest } from '../domain/suggest.ts';
import { formatDuration } from '../domain/units.ts';

export interface KnownNames {
  /** null: the fleet is not known here. */
  readonly hosts: readonly string[] | null;
  /** null: not every host has reported. */
  readonly vms: readonly string[] | null;
  /** What each host has reported; a host that has not, or cannot be asked, is not there. */
  readonly vmsOn: ReadonlyMap<string, readonly string[]>;
  readonly policies: PolicyCatalogue;
  /** Each move waits so long for those whom it concerns; unknown where there is no fleet file. */
  readonly noticeMs?: number;
}

export interface Intake {
  readonly request: OperationRequest;
  /** What is taken and will most likely not do what was meant, one sentence each. */
  readonly warnings: readonly string[];
  readonly idempotencyKey: string | null;
}

const SHUTS_DOWN: ReadonlySet<NonMigratable> = new Set(['shutdown', 'label']);
const NOTHING_SHUT_DOWN =
  'the time for shutting down has no effect: nothing is shut down unless nonMigratable is shutdown or label';

/** Throws `badInput` or `unknownHost`. */
export function evacuation(input: EvacuateNodeInput, known: KnownNames): Intake {
  const parsed = parseInput(evacuateNodeInput([...known.policies.keys()]), input, { what: 'evacuation' });
  const { nonMigratable = 'block' } = parsed;
  const fault = unknownName('host', parsed.host, 'host', known.hosts);
  if (fault !== null) throw new HostevacError('unknownHost', sentence(fault), { problems: [fault] });
  return {
    request: {
      kind: 'evacuateNode',
      host: parsed.host,
      ...policiesOf(parsed, POLICY_PRESETS.maintenance, known.policies),
      deadlineMs: parsed.deadline ?? null,
      nonMigratable,
      ...(parsed.approveFirst === true ? { approveFirst: true } : {}),
      shutdownTimeoutMs: parsed.shutdownTimeout ?? SHUTDOWN_TIMEOUT_MS,
    },
    warnings: [
      ...notThere(Object.keys(parsed.overrides ?? {}), parsed.host, known),
      ...(parsed.shutdownTimeout === undefined || SHUTS_DOWN.has(nonMigratable) ? [] : [NOTHING_SHUT_DOWN]),
      ...tooShort(parsed.deadline, known),
    ],
    idempotencyKey: parsed.idempotencyKey ?? null,
  };
}

/** What is said to whoever joins an evacuation that was asked for otherwise, or that waits for approval. */
export function goesOnOtherwise(
  asked: OperationRequest,
  joined: Pick<OperationRecord, 'id' | 'request' | 'approvedAtMs'>,
): string[] {
  const said: string[] = [];
  const [wanted, given] = [nonMigratableOf(asked), nonMigratableOf(joined.request)];
  if (wanted !== given)
    said.push(`the evacuation that was joined says nonMigratable ${given}, not ${wanted}, and goes on with that`);
  if (needsApproval(joined))
    said.push(`the evacuation that was joined moves nothing before it is approved: hostevac approve ${joined.id}`);
  else if (asked.approveFirst) said.push('the evacuation that was joined does not wait for approval: it goes on');
  return said;
}

/** Throws `badInput`, `unknownHost` or `unknownVm` (the first kind of fault decides the code; all are listed). */
export function balance(input: LoadBalanceInput, known: KnownNames): Intake {
  const parsed = parseInput(loadBalanceInput([...known.policies.keys()]), input, { what: 'rebalance' });
  const twice = repeated(parsed.moves.map(({ vm }) => vm));
  if (twice.length > 0) throw badInput(twice, { what: 'rebalance' });
  const { moves } = parsed;
  const hosts = unknownNames(
    moves.map(({ to }, index) => ({ path: `moves[${index}].to`, name: to })),
    'host',
    known.hosts,
  );
  const vms = unknownNames(
    moves.map(({ vm }, index) => ({ path: `moves[${index}].vm`, name: vm })),
    'VM',
    known.vms,
  );
  const problems = [...hosts, ...vms];
  if (problems.length > 0) {
    throw new HostevacError(hosts.length > 0 ? 'unknownHost' : 'unknownVm', problems.map(sentence).join('\n'), {
      problems,
    });
  }
  const moved = new Set(moves.map(({ vm }) => vm));
  return {
    request: {
      kind: 'loadBalance',
      moves: parsed.moves,
      ...policiesOf(parsed, POLICY_PRESETS.rebalance, known.policies),
      deadlineMs: parsed.deadline ?? null,
      ...(parsed.approveFirst === true ? { approveFirst: true } : {}),
    },
    warnings: [
      ...bounded(
        Object.keys(parsed.overrides ?? {}).filter((vm) => !moved.has(vm)),
        (vm) => `the policy given for ${vm} has no effect: no move of this request is for it`,
      ),
      ...tooShort(parsed.deadline, known),
    ],
    idempotencyKey: parsed.idempotencyKey ?? null,
  };
}

/** What is said of a deadline that passes while those whom the first move concerns are still being told of it. */
function tooShort(deadlineMs: number | undefined, { noticeMs = 0 }: KnownNames): string[] {
  if (deadlineMs === undefined || noticeMs === 0 || deadlineMs > noticeMs) return [];
  const [deadline, notice] = [deadlineMs, noticeMs].map(formatDuration);
  return [`the deadline of ${deadline} passes before anything can begin: each move waits ${notice} after its notice`];
}

/** What is said about VMs with a policy of their own that the host does not have now; nothing where nobody knows. */
function notThere(vms: readonly string[], host: string, { vmsOn }: KnownNames): string[] {
  const there = vmsOn.get(host);
  if (there === undefined) return [];
  const names = new Set(there);
  const missing = vms.filter((vm) => !names.has(vm));
  if (missing.length === 0) return [];
  const places = new Map([...vmsOn].flatMap(([at, held]) => held.map((vm) => [vm, at] as const)));
  return bounded(missing, (vm, index) => {
    const elsewhere = places.get(vm);
    const near = elsewhere === undefined && index < suggestedOf(there.length) ? nearest(vm, there) : undefined;
    const where = elsewhere === undefined ? '' : ` (it is on ${elsewhere})`;
    const meant = near === undefined ? '' : `; did you mean ${near}?`;
    return `the policy given for ${vm} has no effect unless it comes to ${host}: it is not there now${where}${meant}`;
  });
}

/** A sentence for each, up to as many as are listed. */
function bounded(vms: readonly string[], say: (vm: string, index: number) => string): string[] {
  const said = vms.slice(0, MOST_PROBLEMS).map(say);
  return vms.length > said.length ? [...said, `and ${vms.length - said.length} more such policies`] : said;
}

function repeated(vms: readonly string[]): Problem[] {
  const firsts = new Map<string, number>();
  const problems: Problem[] = [];
  let rest = 0;
  for (const [index, vm] of vms.entries()) {
    const first = firsts.get(vm);
    if (first === undefined) firsts.set(vm, index);
    else if (problems.length >= MOST_PROBLEMS) rest += 1;
    else {
      const message = `moves[${first}] moves this VM already`;
      problems.push({ path: `moves[${index}].vm`, value: JSON.stringify(vm), message, remedy: 'name each VM once' });
    }
  }
  return rest === 0 ? problems : [...problems, restProblem(rest)];
}

const NAMES_SHOWN = 12;
/** Looking for the name that was meant goes through all of them: it is done for the first faults only. */
const SUGGESTED = 20;
const MOST_COMPARED = 20_000;

export function unknownName(path: string, name: string, what: string, known: readonly string[] | null): Problem | null {
  return unknownNames([{ path, name }], what, known)[0] ?? null;
}

function suggestedOf(names: number): number {
  return Math.max(1, Math.min(SUGGESTED, Math.floor(MOST_COMPARED / names)));
}

interface Named {
  readonly path: string;
  readonly name: string;
}

/** Those that are not known, at most as many as are listed, then how many more there are. */
function unknownNames(named: readonly Named[], what: string, known: readonly string[] | null): Problem[] {
  if (known === null) return [];
  const names = new Set(known);
  const unknown = named.filter(({ name }) => !names.has(name));
  if (unknown.length === 0) return [];
  const shown = [...known].sort().slice(0, NAMES_SHOWN).join(', ');
  const list = shown + (known.length > NAMES_SHOWN ? `, ... (${known.length})` : '');
  const suggested = suggestedOf(names.size);
  const problems = unknown.slice(0, MOST_PROBLEMS).map(({ path, name }, index): Problem => {
    const near = index < suggested ? nearest(name, names) : undefined;
    return {
      path,
      value: JSON.stringify(name),
      message: `the fleet has no ${what} of that name`,
      remedy: near === undefined ? `use one of ${list}` : `did you mean ${near}? Known: ${list}`,
    };
  });
  return unknown.length === problems.length ? problems : [...problems, restProblem(unknown.length - problems.length)];
}

export function sentence({ path, value, message, remedy }: Problem): string {
  return `${path} ${value}: ${message}; ${remedy}`;
}
