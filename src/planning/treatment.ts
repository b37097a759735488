/**
 * What is done with a VM that cannot be migrated: the request's word, or that of the VM's label (decision 0035). The more
 * careful word holds: a guest is shut down only where the request asks for that and its label does not forbid it. Pure.
 */
import type { Reason } from '../domain/errors.ts';
import { NON_MIGRATABLE_LABEL, type NonMigratable, type Treatment, treatments } from '../domain/non-migratable.ts';
import { notMigratableReason } from './evacuation.ts';
import type { PlanningVm } from './snapshot.ts';

export interface LabelledVm extends Pick<PlanningVm, 'name' | 'state'> {
  readonly notMigratable: string | null;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

export interface Treated {
  readonly treatment: Treatment;
  readonly reason: Reason;
}

/** null: it can be migrated. `choice` null: somebody named this move, and it is refused. */
export function treatmentOf(vm: LabelledVm, choice: NonMigratable | null): Treated | null {
  const refused = notMigratableReason(vm);
  if (refused === null) return null;
  if (choice === null) return { treatment: 'block', reason: refused };
  const text = labelOf(vm);
  const label = treatments.find((one) => one === text);
  if (text !== undefined && label === undefined) {
    const known = treatments.join(', ');
    return block(refused, `its label ${NON_MIGRATABLE_LABEL} says ${JSON.stringify(text)}, which is none of ${known}`);
  }
  const treatment = TABLE[choice][label ?? 'none'];
  const word = label === treatment ? `its label ${NON_MIGRATABLE_LABEL} says` : 'the request says';
  switch (treatment) {
    case 'skip':
      return { treatment, reason: { ...refused, message: `${refused.message}; ${word} that it stays where it is` } };
    case 'shutdown':
      if (vm.state !== 'running') return block(refused, `it is ${vm.state}, so its guest cannot shut down; resume it`);
      return { treatment, reason: { ...refused, message: `${refused.message}; ${word} that it is shut down` } };
    case 'block':
      if (label === 'shutdown')
        return block(refused, `its label lets it be shut down, the request does not ask for it (nonMigratable: label)`);
      return block(refused, label === 'block' && choice !== 'block' ? `${word} that nothing is done about it` : null);
  }
}

/** Request, then label. A label that lets a VM be shut down asks for nothing: it needs a request that shuts down. */
const TABLE: Readonly<Record<NonMigratable, Readonly<Record<Treatment | 'none', Treatment>>>> = {
  block: { none: 'block', block: 'block', skip: 'skip', shutdown: 'block' },
  skip: { none: 'skip', block: 'block', skip: 'skip', shutdown: 'skip' },
  shutdown: { none: 'shutdown', block: 'block', skip: 'skip', shutdown: 'shutdown' },
  label: { none: 'block', block: 'block', skip: 'skip', shutdown: 'shutdown' },
};

function block(refused: Reason, why: string | null): Treated {
  const message = why === null ? refused.message : `${refused.message}; ${why}`;
  return { treatment: 'block', reason: { ...refused, message } };
}

function labelOf({ labels }: LabelledVm): string | undefined {
  return labels !== undefined && Object.hasOwn(labels, NON_MIGRATABLE_LABEL)
    ? labels[NON_MIGRATABLE_LABEL]?.trim()
    : undefined;
}
