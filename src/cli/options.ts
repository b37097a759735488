/**
 * The options of commands as texts, and the inputs they become. Every fault of a command line is found before any is
 * reported. Pure: no commander, no Redis.
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import type { Problem } from '../domain/errors.ts';
import { type Fleet, policyNamesOf } from '../domain/fleet.ts';
import { badInput, printValue, problemsOf } from '../domain/problems.ts';
import {
  type EvacuateNodeInput,
  evacuateNodeInput,
  type LoadBalanceInput,
  loadBalanceInput,
} from '../domain/request.ts';
import { durationText } from '../domain/units.ts';
import { type WhatIfInput, whatIfInput } from '../queue/what-if.ts';
import { hostProblem, unknownHosts } from './hosts.ts';
import { numberOrText, optionValues, type PolicyOptions, vmPolicies } from './policy-options.ts';

/** What commander hands over for `evacuate` and `balance`; every value a text as it was typed. */
export interface RequestOptions extends PolicyOptions {
  /** `name:key=value,...` */
  readonly vm?: readonly string[];
  /** Of `evacuate` only, as the next one. */
  readonly nonMigratable?: string;
  readonly shutdownTimeout?: string;
  readonly deadline?: string;
  readonly idempotencyKey?: string;
  readonly approveFirst?: boolean;
  readonly dryRun?: boolean;
  readonly wait?: boolean;
  readonly timeout?: string;
}

/** What is done with the operation once it is asked for. */
export interface Following {
  readonly dryRun: boolean;
  readonly wait: boolean;
  /** Real time; null: as long as it takes. */
  readonly timeoutMs: number | null;
}

const WHAT = 'the command line';

const limits = { timeout: durationText.optional() };
type OptionsSchema = ReturnType<typeof evacuateOptions> | ReturnType<typeof balanceOptions>;

function evacuateOptions(policies: readonly string[]) {
  return evacuateNodeInput(policies).omit({ host: true, overrides: true }).extend(limits);
}

function balanceOptions(policies: readonly string[]) {
  return loadBalanceInput(policies).omit({ moves: true, overrides: true }).extend(limits);
}

/** Throws `unknownHost` when the host is all that is wrong, else `badInput`. Without a fleet the name is not checked. */
export function evacuateRequest(
  host: string,
  options: RequestOptions,
  fleet: Fleet | null,
): { input: EvacuateNodeInput; following: Following } {
  const { given, timeoutMs, problems } = parsedOptions(evacuateOptions, options, fleet);
  const named =
    host === '' ? { path: '<host>', value: '""', message: 'is empty', remedy: 'name a host of the fleet' } : null;
  const unknown = fleet === null || named !== null ? null : hostProblem(fleet, host, '<host>');
  refuse([...(named === null ? [] : [named]), ...problems], unknown === null ? [] : [unknown]);
  return { input: { host, ...given }, following: followingOf(options, timeoutMs) };
}

export function balanceRequest(
  moves: readonly string[],
  options: RequestOptions,
  fleet: Fleet | null,
): { input: LoadBalanceInput; following: Following } {
  const { given, timeoutMs, problems } = parsedOptions(balanceOptions, options, fleet);
  const parsed = parseMoves(moves);
  const hosts = [...new Set(parsed.moves.map((move) => move.to))];
  const unknown =
    fleet === null ? [] : hosts.map((host) => hostProblem(fleet, host, '--move')).filter((problem) => problem !== null);
  refuse([...parsed.problems, ...problems], unknown);
  return { input: { moves: parsed.moves, ...given }, following: followingOf(options, timeoutMs) };
}

export interface WhatIfOptions extends PolicyOptions {
  readonly to?: string;
}

/** Throws `unknownHost` when the host is all that is wrong, else `badInput`. Whether there is such a VM its hosts know. */
export function whatIfRequest(vm: string, options: WhatIfOptions, fleet: Fleet): WhatIfInput {
  const schema = whatIfInput(policyNamesOf(fleet)).omit({ vm: true });
  const value = optionValues({ ...options });
  const parsed = schema.safeParse(value);
  const problems: Problem[] = parsed.success ? [] : problemsOf(schema, value, parsed.error, '--');
  if (vm === '') problems.push({ path: '<vm>', value: '""', message: 'is empty', remedy: 'name a VM' });
  const unknown = options.to === undefined ? null : hostProblem(fleet, options.to, '--to');
  refuse(problems, unknown === null ? [] : [unknown]);
  return { vm, ...parsed.data };
}

function refuse(problems: readonly Problem[], unknown: readonly Problem[]): void {
  if (problems.length > 0) throw badInput([...unknown, ...problems], { what: WHAT });
  if (unknown.length > 0) throw unknownHosts(unknown);
}

function followingOf(options: RequestOptions, timeoutMs: number | null): Following {
  return { dryRun: options.dryRun === true, wait: options.wait === true, timeoutMs };
}

/** `vm=host`, split at the last `=`: a host's name seldom has one, a VM's may. */
export function parseMoves(texts: readonly string[]): { moves: { vm: string; to: string }[]; problems: Problem[] } {
  const moves: { vm: string; to: string }[] = [];
  const problems: Problem[] = [];
  const example = 'give vm=host, like --move db-1=node-b';
  if (texts.length === 0) {
    problems.push({ path: '--move', value: '', message: 'is missing', remedy: `${example}; may be repeated` });
  }
  for (const text of texts) {
    const at = text.lastIndexOf('=');
    const vm = text.slice(0, Math.max(0, at));
    const to = text.slice(at + 1);
    if (at < 0 || vm === '' || to === '') {
      problems.push({ path: '--move', value: printValue(text), message: 'expected vm=host', remedy: example });
    } else if (moves.some((move) => move.vm === vm)) {
      problems.push({
        path: '--move',
        value: printValue(text),
        message: `${printValue(vm)} is to be moved twice`,
        remedy: 'name each VM once',
      });
    } else {
      moves.push({ vm, to });
    }
  }
  return { moves, problems };
}

type Given = Omit<EvacuateNodeInput, 'host'>;

function parsedOptions(
  schemaOf: (policies: readonly string[]) => OptionsSchema,
  options: RequestOptions,
  fleet: Fleet | null,
): { given: Given; timeoutMs: number | null; problems: Problem[] } {
  const { approveFirst, dryRun, wait, vm = [], ...texts } = options;
  const policies = policyNamesOf(fleet);
  const schema = schemaOf(policies);
  const value = { ...optionValues({ ...texts }), ...(approveFirst === undefined ? {} : { approveFirst }) };
  const parsed = schema.safeParse(value);
  const own = vmPolicies(vm, policies);
  const problems: Problem[] = [
    ...(parsed.success ? [] : problemsOf(schema, value, parsed.error, '--')),
    ...own.problems,
  ];
  if (options.timeout !== undefined && wait !== true) {
    problems.push({
      path: '--timeout',
      value: printValue(options.timeout),
      message: 'limits only a wait',
      remedy: 'add --wait, or say --deadline to limit the operation itself',
    });
  }
  if (dryRun === true && wait === true) {
    problems.push({
      path: '--dry-run',
      value: '',
      message: 'changes nothing, so there is nothing to wait for',
      remedy: 'leave out --wait',
    });
  }
  if (!parsed.success) return { given: {}, timeoutMs: null, problems };
  const { timeout, ...given } = parsed.data;
  const overrides = vm.length === 0 ? {} : { overrides: own.overrides };
  return { given: { ...given, ...overrides }, timeoutMs: timeout ?? null, problems };
}

export const portSchema = z
  .int({ error: 'expected a whole number from 0 to 65535' })
  .min(0, { error: 'expected a whole number from 0 to 65535' })
  .max(65_535, { error: 'expected a whole number from 0 to 65535' });

/** Options of `worker`: hosts in the order given, each once. */
export function workerOptions(
  options: {
    readonly hosts?: string;
    readonly operations?: boolean;
    readonly metricsPort?: string;
    readonly metricsAddress?: string;
  },
  fleet: Fleet,
): { hosts: string[]; operations: boolean; metrics: { port: number; address: string } | null } {
  const hosts = [
    ...new Set(
      (options.hosts ?? '')
        .split(',')
        .map((name) => name.trim())
        .filter((name) => name !== ''),
    ),
  ];
  const operations = options.operations === true;
  const metrics = metricsPlace(options);
  if (options.hosts !== undefined && hosts.length === 0) {
    const remedy = `give names of hosts, like --hosts ${fleet.hosts[0]?.name ?? 'node-a'}`;
    throw badInput([{ path: '--hosts', value: printValue(options.hosts), message: 'names no host', remedy }], {
      what: WHAT,
    });
  }
  if (hosts.length === 0 && !operations) {
    const remedy = 'say which hosts this worker serves with --hosts a,b, or --operations, or both';
    throw badInput([{ path: '--hosts', value: '', message: 'is missing, and so is --operations', remedy }], {
      what: WHAT,
    });
  }
  const unknown = hosts.map((host) => hostProblem(fleet, host, '--hosts')).filter((problem) => problem !== null);
  if (unknown.length > 0) throw unknownHosts(unknown);
  return { hosts, operations, metrics };
}

/** Where a worker shows its metrics; null: nowhere. */
function metricsPlace({
  metricsPort,
  metricsAddress,
}: {
  readonly metricsPort?: string;
  readonly metricsAddress?: string;
}): { port: number; address: string } | null {
  const value = {
    ...(metricsPort === undefined ? {} : { 'metrics-port': numberOrText(metricsPort) }),
    ...(metricsAddress === undefined ? {} : { 'metrics-address': metricsAddress }),
  };
  const schema = z.strictObject({
    'metrics-port': portSchema.optional(),
    'metrics-address': z
      .string()
      .refine((text) => isIP(text) !== 0, { error: 'expected an IP address of this machine such as 127.0.0.1' })
      .optional(),
  });
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw badInput(problemsOf(schema, value, parsed.error, '--'), { what: WHAT });
  const { 'metrics-port': port, 'metrics-address': address } = parsed.data;
  if (port === undefined && address !== undefined) {
    const remedy = 'add --metrics-port, like --metrics-port 9461';
    const problem = { path: '--metrics-address', value: printValue(address), message: 'serves nothing alone', remedy };
    throw badInput([problem], { what: WHAT });
  }
  return port === undefined ? null : { port, address: address ?? '127.0.0.1' };
}
