/** Guests that were asked to shut down, and are off some seconds later by themselves. Pure. */
import { chance } from './hash.ts';
import { changeCopy } from './migrations.ts';
import type { State } from './model.ts';
import { copyOf, type Draft, guestNamed, keyOf, migrationFrom } from './records.ts';

/** A guest ends its programs and writes out its files: so long at least, and at most (fleet ms). */
const QUICKEST_MS = 3_000;
const SLOWEST_MS = 15_000;
/** Whoever migrates it meanwhile holds it up: it is looked at again after this. */
const HELD_UP_MS = 1_000;

export function isShuttingDown({ stopping }: State, host: string, vm: string): boolean {
  return stopping !== undefined && Object.hasOwn(stopping, keyOf(host, vm));
}

/** One that is at it already is not sped up. */
export function beginShutdown(draft: Draft, host: string, vm: string): void {
  const { ignoresShutdown, uuid } = guestNamed(draft, vm);
  if (ignoresShutdown === true || isShuttingDown(draft, host, vm)) return;
  const takesMs = QUICKEST_MS + (SLOWEST_MS - QUICKEST_MS) * chance(draft.seed, 'shutdown', uuid, draft.index);
  draft.stopping = { ...draft.stopping, [keyOf(host, vm)]: draft.nowMs + takesMs };
}

/** It is off, unless it has gone meanwhile. */
export function endShutdown(draft: Draft, host: string, vm: string): void {
  const key = keyOf(host, vm);
  if (migrationFrom(draft, host, vm) !== undefined) {
    draft.stopping = { ...draft.stopping, [key]: draft.nowMs + HELD_UP_MS };
    return;
  }
  const { [key]: _over, ...stopping } = draft.stopping ?? {};
  draft.stopping = stopping;
  if (copyOf(draft, host, vm)?.state !== 'running') return;
  changeCopy(draft, host, vm, { state: 'shutOff', share: 1 });
  delete draft.throttled[key];
}
