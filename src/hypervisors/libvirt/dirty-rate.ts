/**
 * Looking at how much a guest dirties: libvirt hands QEMU's page sampling on, in whole seconds and with QEMU's own number
 * of samples, and not while a migration runs: then the passes have to do.
 */
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import type { Fence } from '../../store/lease.ts';
import type { DirtyingMeasured } from '../hypervisor.ts';
import { dirtied, PAGES_PER_GIB_UNASKED } from '../qemu/dirty-sampling.ts';
import { dirtyRate } from './answers.ts';
import type { LibvirtHost } from './host.ts';
import { see } from './sights.ts';
import { ask, told } from './virsh.ts';

const LOOK_MS = 100;
/** libvirt's own bounds, seconds. */
const LONGEST_SEC = 60;
/** Sampling itself takes a moment; beyond this it has been lost. */
const LATE_MS = 5_000;

export async function measureDirtying(
  host: LibvirtHost,
  vm: string,
  windowMs: number,
  { signal, fence }: { readonly signal: AbortSignal; readonly fence?: Fence | undefined },
): Promise<DirtyingMeasured | null> {
  const seen = await see(host, vm);
  // A question that has to wait for a job would be answered about another time.
  if (seen === null || seen.stats.state !== 'running' || seen.job === null || seen.job.kind !== 'none') return null;
  const seconds = Math.min(LONGEST_SEC, Math.max(1, Math.ceil(windowMs / 1_000)));
  if (signal.aborted || !isHeld(fence)) return null;
  const begun = await ask(host, ['domdirtyrate-calc', seen.uuid, '--seconds', String(seconds)]);
  if (begun.code !== 0) return null;
  const until = performance.now() + seconds * 1_000 + LATE_MS;
  await abortableSleep(seconds * 1_000, signal);
  for (; !signal.aborted && performance.now() < until; await abortableSleep(LOOK_MS, signal)) {
    const rate = dirtyRate(await told(host, ['domstats', '--raw', '--nowait', '--dirtyrate', seen.uuid]));
    if (rate === null) return null;
    if (rate.state !== 'measured') continue;
    const { mibPerSec } = rate;
    const memoryBytes = seen.stats.maxMemoryBytes;
    return dirtied({ mibPerSec, windowMs: rate.periodSec * 1_000, pagesPerGib: PAGES_PER_GIB_UNASKED, memoryBytes });
  }
  return null;
}

function isHeld(fence: Fence | undefined): boolean {
  try {
    fence?.assertHeld();
    return true;
  } catch {
    return false;
  }
}
