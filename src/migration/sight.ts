/** What a host says of a VM, where it may say nothing: silence is no answer, unless a person has confirmed it to be down. */
import { HostevacError } from '../domain/errors.ts';
import type { Seen } from './assess.ts';
import type { MigrationDeps } from './context.ts';

/** null: it does not answer, and nobody knows more. */
export async function seenAt(deps: MigrationDeps, host: string, vm: string): Promise<Seen> {
  try {
    return await deps.hypervisorOf(host).look(host, vm);
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
    return (await deps.abandoned.isDown(host)) ? { present: false } : null;
  }
}
