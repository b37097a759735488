/**
 * What is checked before a request is kept: its form, the hosts and VMs it names. All faults at once; nothing is half
 * kept. Names are checked against what is known; where nothing is known yet (no worker has ever run), the operation says
 * later what it could not find.
 */
import { HostevacError, type Problem } from '../domain/errors.ts';
import { type NonMigratable, SHUTDOWN_TIMEOUT_MS } from '../domain/non-migratable.ts';
import { needsApproval, type OperationRecord } from '../domain/operation.ts';
import { POLICY_PRESETS, type PolicyCatalogue } from '../domain/policy.ts';
import { badInput, parseInput } from '../domain/problems.ts';
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
      ...Object.keys(parsed.overrides ?? {}).flatMap((vm) => notThere(vm, parsed.host, known) ?? []),
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
  const hosts = parsed.moves.flatMap(
    ({ to }, index) => unknownName(`moves[${index}].to`, to, 'host', known.hosts) ?? [],
  );
  const vms = parsed.moves.flatMap(({ vm }, index) => unknownName(`moves[${index}].vm`, vm, 'VM', known.vms) ?? []);
  const problems = [...hosts, ...vms];
  if (problems.length > 0) {
    throw new HostevacError(hosts.length > 0 ? 'unknownHost' : 'unknownVm', problems.map(sentence).join('\n'), {
      problems,
    });
  }
  return {
    request: {
      kind: 'loadBalance',
      moves: parsed.moves,
      ...policiesOf(parsed, POLICY_PRESETS.rebalance, known.policies),
      deadlineMs: parsed.deadline ?? null,
      ...(parsed.approveFirst === true ? { approveFirst: true } : {}),
    },
    warnings: [
      ...Object.keys(parsed.overrides ?? {})
        .filter((vm) => !parsed.moves.some((move) => move.vm === vm))
        .map((vm) => `the policy given for ${vm} has no effect: no move of this request is for it`),
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

/** What is said about a VM with a policy of its own that the host does not have now; null: it has it, or nobody knows. */
function notThere(vm: string, host: string, { vmsOn }: KnownNames): string | null {
  const there = vmsOn.get(host);
  if (there === undefined || there.includes(vm)) return null;
  const [elsewhere] = [...vmsOn].find(([, vms]) => vms.includes(vm)) ?? [];
  const near = elsewhere === undefined ? nearest(vm, there) : undefined;
  const where = elsewhere === undefined ? '' : ` (it is on ${elsewhere})`;
  const meant = near === undefined ? '' : `; did you mean ${near}?`;
  return `the policy given for ${vm} has no effect unless it comes to ${host}: it is not there now${where}${meant}`;
}

function repeated(vms: readonly string[]): Problem[] {
  return vms.flatMap((vm, index) => {
    const first = vms.indexOf(vm);
    if (first === index) return [];
    const message = `moves[${first}] moves this VM already`;
    return [{ path: `moves[${index}].vm`, value: JSON.stringify(vm), message, remedy: 'name each VM once' }];
  });
}

const NAMES_SHOWN = 12;

export function unknownName(path: string, name: string, what: string, known: readonly string[] | null): Problem | null {
  if (known === null || known.includes(name)) return null;
  const near = nearest(name, known);
  const list =
    [...known].sort().slice(0, NAMES_SHOWN).join(', ') + (known.length > NAMES_SHOWN ? `, ... (${known.length})` : '');
  return {
    path,
    value: JSON.stringify(name),
    message: `the fleet has no ${what} of that name`,
    remedy: near === undefined ? `use one of ${list}` : `did you mean ${near}? Known: ${list}`,
  };
}

export function sentence({ path, value, message, remedy }: Problem): string {
  return `${path} ${value}: ${message}; ${remedy}`;
}
