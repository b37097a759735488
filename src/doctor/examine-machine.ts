/** This machine: Node, the state directory, the clock, and whether guests can be throttled here. */
import { LOCAL_URI } from '../domain/fleet.ts';
import { guardPlaces } from '../throttling/guard/places.ts';
import { type Finding, notChecked } from './finding.ts';
import { judgeCgroups, judgeDirectory, judgeGuard, judgeKernelClock, judgeNode, MACHINE } from './judge/machine.ts';
import { lookAtDirectory } from './probe/directory.ts';
import { kernelClock, lookAtCgroups, probeGuard } from './probe/machine.ts';
import { namespaceOf, type RealHost, type Surroundings } from './surroundings.ts';

export function examineDirectories(stateDir: string): Finding[] {
  const state = judgeDirectory(
    'state.directory',
    MACHINE,
    'HOSTEVAC_STATE_DIR',
    lookAtDirectory(stateDir),
    'hostevac makes it when it is needed',
  );
  if (state.verdict === 'fault') {
    return [state, notChecked('state.journal', MACHINE, 'it is in the state directory, which is at fault')];
  }
  const { dir } = guardPlaces(stateDir);
  const journal = judgeDirectory(
    'state.journal',
    MACHINE,
    'state directory',
    lookAtDirectory(dir),
    'the guard makes it',
  );
  return [state, journal];
}

export async function examineClock({ env, signal }: Surroundings): Promise<Finding[]> {
  const { synchronised, by } = await kernelClock(env, signal);
  return [judgeNode(process.versions.node), judgeKernelClock(synchronised, by)];
}

/** Guests of these run here, so that they are throttled from here. */
export function runsHere(host: RealHost): boolean {
  return host.driver === 'qemu' || LOCAL_URI.test(host.libvirt.uri) || namespaceOf(host) !== null;
}

export async function examineThrottling(stateDir: string, hosts: readonly RealHost[]): Promise<Finding[]> {
  if (hosts.length === 0) return [];
  const elsewhere = hosts.filter((host) => !runsHere(host));
  const there = elsewhere.map(({ name }) =>
    notChecked('throttle.guard', name, 'its guests run on another machine', `run hostevac doctor ${name} there`),
  );
  if (elsewhere.length === hosts.length) return there;
  const groups = judgeCgroups(lookAtCgroups());
  // A guard that runs as somebody else has rights of its own: what it can do counts.
  const guard = judgeGuard(await probeGuard(stateDir));
  const judged = groups.map((finding) =>
    finding.verdict === 'fault' && guard.verdict === 'ok'
      ? notChecked(finding.id, MACHINE, `${finding.found}, but the guard that runs can throttle`)
      : finding,
  );
  return [...judged, guard, ...there];
}
