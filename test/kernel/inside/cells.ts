/**
 * Our groups and quotas on cgroup v2, in the layouts that hypervisors leave their threads in: what each thread gets
 * while it is held, and what everything looks like before and afterwards.
 */
import { join } from 'node:path';
import { type Cell, holdCell, openCell, planCells, restoreCell } from '../../../src/throttling/cgroup/cells.ts';
import { GroupFiles } from '../../../src/throttling/cgroup/files.ts';
import { domainGroup, libvirtGroups, put, ROOT, stateOf } from './groups.ts';
import { groupsOf, type Spinner, sharesOf } from './spinner.ts';

const files = new GroupFiles();

/** Holds every cell of the spinner to so many cores; the groups are looked at before, while and after. */
async function held(spinner: Spinner, watched: readonly string[], cores: number) {
  const look = () => ({ groups: groupsOf(spinner), states: watched.map(stateOf) });
  const before = look();
  const planned: Cell[] = planCells(files, spinner.tids, 'hostevac-test', () => false);
  for (const cell of planned) openCell(files, cell);
  for (const cell of planned) holdCell(files, cell, { cores, busyThreads: 1, longestStretchMs: 300 });
  const during = look();
  const shares = await sharesOf(spinner, 2_000);
  for (const cell of planned) restoreCell(files, cell);
  const after = look();
  const freed = await sharesOf(spinner, 500);
  return { kinds: planned.map(({ place }) => place.kind), before, during, shares, after, freed };
}

/** Nobody has sorted the processes at all; the root hands memory down as well, as systemd has it. */
function root(spinner: Spinner) {
  put(ROOT, 'cgroup.subtree_control', '+memory');
  return held(spinner, [ROOT], 0.2);
}

/** As libvirt leaves it: a threaded group for each vCPU, the first with a quota that somebody set. */
function libvirt(spinner: Spinner) {
  const { top, vcpus } = libvirtGroups('lent', spinner.pid, spinner.tids);
  put(vcpus[0] ?? top, 'cpu.max', '60000 80000');
  return held(spinner, [top, ...vcpus], 0.1);
}

/** As systemd leaves a QEMU that was started by hand: all threads in one domain group. */
function service(spinner: Spinner) {
  const home = domainGroup('system.slice', 'qemu.service');
  put(home, 'cgroup.procs', spinner.pid);
  return held(spinner, [home], 0.2);
}

/** The group above the VM's does not hand the cpu controller down. */
function undelegated(spinner: Spinner) {
  const home = join(domainGroup('closed.slice'), 'vm.scope');
  files.makeGroup(home);
  put(home, 'cgroup.procs', spinner.pid);
  const before = stateOf(home);
  try {
    for (const cell of planCells(files, spinner.tids, 'hostevac-test', () => false)) openCell(files, cell);
    return { before, after: stateOf(home), refusal: 'none' };
  } catch (error) {
    return { before, after: stateOf(home), refusal: String(error) };
  }
}

export async function cells(spinner: Spinner) {
  return {
    root: await root(spinner),
    libvirt: await libvirt(spinner),
    service: await service(spinner),
    undelegated: undelegated(spinner),
  };
}
