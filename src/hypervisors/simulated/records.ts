/** Looking into and editing the state's records without ever changing one that a cached state may share. Pure. */
import { HostevacError } from '../../domain/errors.ts';
import type { Copy, Guest, Migration, State } from './model.ts';

/** A VM may be called `constructor`: only own properties count. */
export function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

/** The record without `key`. */
function without<T>(record: Readonly<Record<string, T>>, key: string): Record<string, T> {
  const { [key]: _gone, ...rest } = record;
  return rest;
}

/** One key for a VM on a host. Names hold no control characters, so that two pairs never share a key. */
export function keyOf(host: string, vm: string): string {
  return `${host}\n${vm}`;
}

export function hostAndVm(key: string): { readonly host: string; readonly vm: string } {
  const cut = key.indexOf('\n');
  return { host: key.slice(0, cut), vm: key.slice(cut + 1) };
}

/**
 * A state that is being made from another. Its own fields may be assigned, and the lists `migrations` and `throttled`
 * are its own and may be edited: with hundreds of migrations, copying them at every event would be most of the work. All
 * else that hangs below is shared with the state it came from and is only ever replaced.
 */
export type Draft = State;

export function draftOf(state: State): Draft {
  return { ...state, migrations: [...state.migrations], throttled: { ...state.throttled } };
}

export function copyOf(state: State, host: string, vm: string): Copy | undefined {
  const at = own(state.hosts, host);
  return at === undefined ? undefined : own(at.copies, vm);
}

/** The active migration of the VM out of this host. */
export function migrationFrom(state: State, source: string, vm: string): Migration | undefined {
  return state.migrations.find((migration) => migration.vm === vm && migration.source === source);
}

/** Takes the place of the same VM's migration from the same source, or joins the list. */
export function putMigration(draft: Draft, migration: Migration): void {
  const place = placeOf(draft, migration);
  draft.migrations[place < 0 ? draft.migrations.length : place] = migration;
}

export function dropMigration(draft: Draft, migration: Migration): void {
  const place = placeOf(draft, migration);
  if (place >= 0) draft.migrations.splice(place, 1);
}

function placeOf(state: State, { vm, source }: Migration): number {
  return state.migrations.findIndex((migration) => migration.vm === vm && migration.source === source);
}

export function guestNamed(state: State, vm: string): Guest {
  const guest = own(state.guests, vm);
  if (guest === undefined) throw new HostevacError('internal', `the simulated fleet has a copy of ${vm} but no guest`);
  return guest;
}

export function putCopy(draft: Draft, host: string, vm: string, copy: Copy): void {
  const at = own(draft.hosts, host);
  if (at === undefined) return;
  draft.hosts = { ...draft.hosts, [host]: { ...at, copies: { ...at.copies, [vm]: copy } } };
}

/** The copy, its throttle and its memory of migrations are gone. */
export function dropCopy(draft: Draft, host: string, vm: string): void {
  const at = own(draft.hosts, host);
  if (at === undefined) return;
  draft.hosts = { ...draft.hosts, [host]: { ...at, copies: without(at.copies, vm) } };
  delete draft.throttled[keyOf(host, vm)];
}

/** A copy that starts to exist now. */
export function newCopy(state: Copy['state'], atMs: number, wakesAs: Copy['wakesAs'] = null): Copy {
  return {
    state,
    still: false,
    share: 1,
    arriving: false,
    fed: 1,
    gotCpuMs: 0,
    cpuSinceMs: atMs,
    wakesAs,
    lastOutgoing: null,
  };
}
