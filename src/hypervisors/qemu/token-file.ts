/**
 * The second layer of fencing (the first: the lease's own clock, and that an expired predecessor is ended): the largest
 * lease token that has driven a VM, kept beside it. A smaller one is refused as long as another process that showed the
 * larger may still act; once that is gone a smaller one is a new store's (tokens count from one again), not a stale one.
 * Of a token that this very process has shown the same is true: which of its leases is in force it knows itself.
 */
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import { isDeadHere, thisProcess } from '../../runtime/process-identity.ts';
import type { Fence } from '../../store/lease.ts';
import { readSmallFile, writeDurably } from './durable-file.ts';
import type { VmDir } from './vm-dir.ts';

const schema = z.object({
  token: z.int(),
  machine: z.string(),
  pid: z.int(),
  startTicks: z.int(),
});
type Shown = z.output<typeof schema>;

/** Call it in the same tick as the write it allows. Throws `leaseLost`. The directory must exist. */
export function assertMayDrive(fence: Fence, dir: VmDir, vm: string): void {
  fence.assertHeld();
  const { machine, pid, startTicks } = thisProcess();
  const shown = read(dir);
  const own = shown?.machine === machine && shown.pid === pid && shown.startTicks === startTicks;
  if (shown !== undefined && shown.token > fence.token && !own && !isDeadHere(shown)) {
    throw new HostevacError(
      'leaseLost',
      `${vm}: process ${shown.pid} drives it with lease token ${shown.token}; this one has ${fence.token}, which is stale`,
    );
  }
  if (own && shown.token === fence.token) return;
  writeDurably(dir.token, `${JSON.stringify({ token: fence.token, machine, pid, startTicks })}\n`);
}

/** One that cannot be read is none: it is our own file, and the first layer stands. */
function read(dir: VmDir): Shown | undefined {
  const text = readSmallFile(dir.token);
  if (text === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
