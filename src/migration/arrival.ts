/**
 * What post-copy costs a guest, summed up while it runs at its destination with memory missing: its demand as it was
 * known before, less the CPU time that its vCPU threads get there. So what it wants less by itself, or another guest there
 * takes from it, counts as harm, too: an upper bound.
 */
import { HostevacError } from '../domain/errors.ts';
import type { Account } from '../domain/operation.ts';
import type { MigrationSample } from '../hypervisors/hypervisor.ts';
import type { GuestCpu } from '../throttling/throttle.ts';
import type { MigrationContext } from './context.ts';

/**
 * From now on the books are kept at the destination, where the guest had got nothing when it went over. What is written
 * here also says, to whoever reads the record, that the guest has gone over for certain.
 */
export async function openArrival(ctx: MigrationContext, sample: MigrationSample): Promise<void> {
  const { account, figures } = ctx.record;
  if (account?.arriving === true) return;
  const downtimeMs = sample.downtimeMs ?? 0;
  // Of a guest whose CPU time could not be told no harm is booked; that it is arriving is noted all the same.
  const before = account ?? { atMs: sample.atMs, demandCores: 0, observedMs: 0, shareMs: 0 };
  // Its source was looked at last right before it was told to; a successor knows no better moment.
  const atMs = Math.min(sample.atMs, before.atMs + downtimeMs);
  const arrived: Account = { ...before, atMs, gotCpuMs: 0, frozenDemandCores: null, arriving: true };
  await ctx.save({ account: arrived, figures: { ...figures, downtimeMs } });
}

/** Books the stretch since the last look. */
export async function bookArrival(ctx: MigrationContext): Promise<void> {
  const { account, figures, destination, vm } = ctx.record;
  if (account?.arriving !== true) return;
  const cpu = await guestCpu(ctx, destination, vm);
  if (cpu === null || cpu.atMs <= account.atMs) return;
  const elapsedMs = cpu.atMs - account.atMs;
  const lostMs = Math.max(0, account.demandCores * elapsedMs - Math.max(0, cpu.gotCpuMs - account.gotCpuMs));
  await ctx.save({
    account: { ...account, atMs: cpu.atMs, gotCpuMs: cpu.gotCpuMs },
    figures: { ...figures, harmCpuMs: figures.harmCpuMs + lostMs },
  });
}

/** null: it cannot be told there, or not yet. */
async function guestCpu(ctx: MigrationContext, host: string, vm: string): Promise<GuestCpu | null> {
  try {
    return await ctx.deps.throttleOf(host).guestCpu({ host, vm });
  } catch (error) {
    if (error instanceof HostevacError && error.code !== 'leaseLost') return null;
    throw error;
  }
}
