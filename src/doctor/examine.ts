/**
 * One examination: the steps in their order, told of while they take long. Reads, connects and measures; changes nothing but
 * a group that the guard makes and removes. What is asked of the machine is bounded where it is asked.
 */
import { HostevacError, type Problem } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { printProblems } from '../domain/problems.ts';
import { stateDirPath } from '../runtime/state-dir.ts';
import { examineLibvirt, examineQemu } from './examine-hypervisors.ts';
import { examineClock, examineDirectories, examineThrottling } from './examine-machine.ts';
import { examineBandwidth, examineNames, examinePorts } from './examine-network.ts';
import { examineRedis } from './examine-redis.ts';
import { type Finding, fault, ok, type Report, reportOf } from './finding.ts';
import { type Examined, realHosts, type Surroundings } from './surroundings.ts';

export interface ExamineOptions extends Surroundings {
  /** Or why there is none. */
  readonly fleet: Fleet | HostevacError;
  /** Names; empty: all. */
  readonly hosts: readonly string[];
  readonly bandwidth: boolean;
  readonly progress: (line: string) => void;
}

/** A step that takes longer is named, so that nobody wonders. */
const TELL_AFTER_MS = 1_000;

/** What was found when the signal aborted is lost: nobody waits for it. */
export async function examine({
  fleet: given,
  hosts,
  bandwidth,
  progress,
  env,
  signal,
}: ExamineOptions): Promise<Report> {
  const surroundings = { env, signal };
  const stateDir = stateDirPath(env);
  const fleet = given instanceof HostevacError ? null : given;
  const findings: Finding[] = [given instanceof HostevacError ? fleetFault(given) : fleetOk(given)];
  const step = async (title: string, act: () => Finding[] | Promise<Finding[]>): Promise<void> => {
    signal.throwIfAborted();
    const timer = setTimeout(() => progress(`${title} ...`), TELL_AFTER_MS);
    try {
      findings.push(...(await act()));
    } finally {
      clearTimeout(timer);
    }
  };
  await step('this machine', () => examineClock(surroundings));
  await step('directories', () => examineDirectories(stateDir));
  await step('Redis and workers', () => examineRedis(surroundings, stateDir, fleet));
  const named = (name: string): boolean => hosts.length === 0 || hosts.includes(name);
  if (fleet !== null) {
    const asked = realHosts(fleet).filter(({ name }) => named(name));
    const examined: Examined = { ...surroundings, fleet, hosts: asked, progress };
    await step('throttling', () => examineThrottling(stateDir, examined.hosts));
    await step('QEMU', () => examineQemu(examined));
    await step('libvirt', () => examineLibvirt(examined));
    await step('names', () => examineNames(examined));
    await step('ports', () => examinePorts(examined));
    if (bandwidth) await step('bandwidth', () => examineBandwidth(examined));
  }
  signal.throwIfAborted();
  return reportOf((fleet?.hosts ?? []).map(({ name }) => name).filter(named), findings);
}

function fleetOk({ name, hosts }: Fleet): Finding {
  const drivers = [...new Set(hosts.map(({ driver }) => driver))].join(', ');
  return ok('fleet.file', 'fleet', `fleet ${name}: ${hosts.length} hosts (${drivers})`);
}

function fleetFault(error: HostevacError): Finding {
  if (error.problems.length === 0) {
    const [found = error.message, ...remedy] = error.message.split('; ');
    return fault('fleet.file', 'fleet', found, remedy.join('; ') || 'name one with --fleet FILE');
  }
  const { problems } = error;
  const found = `${problems.length === 1 ? '1 problem' : `${problems.length} problems`}: ${oneLine(problems)}`;
  return fault('fleet.file', 'fleet', found, 'correct each; docs/fleet.schema.json makes editors check the file');
}

function oneLine(problems: readonly Problem[]): string {
  return printProblems(problems)
    .split('\n')
    .map((line) => line.trim())
    .join(' | ');
}
