/** What a host says of a VM, where it may say nothing: silence is no answer, unless a person has confirmed it to be down. */
import { HostevacError } from '../domain/errors.ts';
import type { Seen } from './assess.ts';
import type { MigrationDeps } from './context.ts';

/** What a host answers; null: it does not. */
export async function unlessSilent<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof HostevacError && error.code === 'hostUnreachable') return null;
    throw error;
  }
}

/** null: it does not answer, and nobody knows more. */
export async function seenAt(deps: MigrationDeps, host: string, vm: string): Promise<Seen> {
  const seen = await unlessSilent(deps.hypervisorOf(host).look(host, vm));
  return seen === null && (await deps.abandoned.isDown(host)) ? { present: false } : seen;
}
