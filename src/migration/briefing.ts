/** What a controller is told of the guest before it decides anything: its size, and all evidence of how it dirties. */
import type { Briefing } from '../convergence/controller.ts';
import type { GuestFacts } from '../convergence/dirty-model.ts';
import { fromHistory } from '../convergence/history.ts';
import { HostevacError } from '../domain/errors.ts';
import type { Hypervisor, VmOnHost } from '../hypervisors/hypervisor.ts';
import type { MigrationContext } from './context.ts';

/** Looks for it there, and notes what it is. */
export async function vmAtSource(ctx: MigrationContext): Promise<VmOnHost | undefined> {
  const inventory = await ctx.sourceHypervisor.inventory(ctx.record.source);
  const vm = inventory.vms.find(({ name }) => name === ctx.record.vm);
  if (vm !== undefined) ctx.guest = factsOf(vm, ctx.sourceHypervisor);
  return vm;
}

/** What is known of a guest where that hypervisor runs it, before anybody looks closer. */
export function factsOf(
  { memoryBytes, touchedBytes, demandCores }: VmOnHost,
  { handoverMs }: Pick<Hypervisor, 'handoverMs'>,
): GuestFacts {
  return { memoryBytes, touchedBytes, demandCores, handoverMs };
}

/**
 * The guest as it was seen last, by this process: a whole host is not looked at again while bandwidth is held for one VM.
 * Throws `hypervisorRefused` when it is not at its source.
 */
export async function briefingOf(ctx: MigrationContext): Promise<Briefing> {
  const { vm: name, source, account, evidence, uuid } = ctx.record;
  if (ctx.guest === null) await vmAtSource(ctx);
  const seen = ctx.guest;
  if (seen === null) throw new HostevacError('hypervisorRefused', `${name} is not at ${source}`);
  // Seen over a longer stretch than an inventory's look; what was frozen when throttling began, if it has.
  const { demandCores } = account ?? (await ctx.deps.throttleOf(source).guestCpu({ host: source, vm: name }));
  const guest = { ...seen, demandCores };
  ctx.guest = guest;
  const nowMs = ctx.now();
  const kept = uuid === null ? [] : fromHistory(await ctx.deps.records.history(uuid), nowMs);
  return { guest, evidence: [...kept, ...evidence], nowMs };
}
