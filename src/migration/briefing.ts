/** What a controller is told of the guest before it decides anything: its size, and all evidence of how it dirties. */
import type { Briefing } from '../convergence/controller.ts';
import type { GuestFacts } from '../convergence/dirty-model.ts';
import { fromHistory } from '../convergence/history.ts';
import { HostevacError } from '../domain/errors.ts';
import type { VmOnHost } from '../hypervisors/hypervisor.ts';
import type { MigrationContext } from './context.ts';

/** Looks for it there, and notes what it is. */
export async function vmAtSource(ctx: MigrationContext): Promise<VmOnHost | undefined> {
  const inventory = await ctx.sourceHypervisor.inventory(ctx.record.source);
  const vm = inventory.vms.find(({ name }) => name === ctx.record.vm);
  if (vm !== undefined) ctx.guest = factsOf(vm);
  return vm;
}

function factsOf({ memoryBytes, touchedBytes, demandCores }: VmOnHost): GuestFacts {
  return { memoryBytes, touchedBytes, demandCores };
}

/** Throws `hypervisorRefused` when the VM is not at its source. */
export async function briefingOf(ctx: MigrationContext): Promise<Briefing> {
  const { vm: name, source, account, evidence, uuid } = ctx.record;
  const vm = await vmAtSource(ctx);
  if (vm === undefined || ctx.guest === null)
    throw new HostevacError('hypervisorRefused', `${name} is not at ${source}`);
  // Seen over a longer stretch than an inventory's look; what was frozen when throttling began, if it has.
  const { demandCores } = account ?? (await ctx.deps.throttleOf(source).guestCpu({ host: source, vm: name }));
  ctx.guest = { ...ctx.guest, demandCores };
  const nowMs = ctx.now();
  const kept = await ctx.deps.records.history(uuid ?? vm.uuid);
  return { guest: ctx.guest, evidence: [...fromHistory(kept, nowMs), ...evidence], nowMs };
}
