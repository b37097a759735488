/**
 * Everything that a lab's QEMUs are told and become, from their own trace log: a program named as QEMU stands first in
 * PATH and starts the real one with tracing on. Its log survives the VM's directory.
 * Source: QEMU's docs/devel/tracing.rst ("log" backend); trace-events of monitor, system and migration.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { z } from 'zod';
import { QEMU } from '../../src/lab/guests.ts';

/** Beside the lab's own directory: `qmp.<host>.<vm>.<pid>.log`. */
const script = (real: string): string => `#!/bin/sh
previous=
for argument in "$@"; do
  [ "$previous" = -pidfile ] && pidfile=$argument
  previous=$argument
done
[ -z "$pidfile" ] && exec ${real} "$@"
dir=\${pidfile%/*}
host=\${dir%/*}
home=\${host%/*/*}
log="$home/qmp.\${host##*/}.\${dir##*/}.$$.log"
exec ${real} "$@" -msg timestamp=on -trace handle_qmp_command -trace vm_state_notify -trace migrate_set_state -D "$log"
`;

/** From now on every QEMU that this process or its children start is traced; returns how to end that. */
export function traceQemus(): () => void {
  const before = process.env['PATH'] ?? '';
  const real = execFileSync('sh', ['-c', `command -v ${QEMU}`], { encoding: 'utf8' }).trim();
  const folder = mkdtempSync('/tmp/hevt-trace-');
  writeFileSync(join(folder, QEMU), script(real), { mode: 0o755 });
  process.env['PATH'] = `${folder}${delimiter}${before}`;
  return () => {
    process.env['PATH'] = before;
    rmSync(folder, { recursive: true, force: true });
  };
}

export type Traced = { readonly atMs: number; readonly host: string; readonly pid: number } & (
  | { readonly kind: 'command'; readonly command: string; readonly monitor: string }
  /** The guest's CPUs began to run, or stopped. */
  | { readonly kind: 'running' | 'standing' }
  | { readonly kind: 'migration'; readonly state: string }
);

const requestSchema = z.object({ execute: z.string() });

/** All copies of a VM that ever were, in order of time. */
export function tracedOf(home: string, vm: string): Traced[] {
  const found = readdirSync(home).flatMap((name) => {
    const [, host, of, pid] = /^qmp\.([^.]+)\.([^.]+)\.(\d+)\.log$/.exec(name) ?? [];
    if (host === undefined || of !== vm) return [];
    const lines = readFileSync(join(home, name), 'utf8').split('\n');
    return lines.flatMap((line) => parse(line, { host, pid: Number(pid) }));
  });
  return found.sort((one, other) => one.atMs - other.atMs);
}

function parse(line: string, where: { host: string; pid: number }): Traced[] {
  const [, atSec, event, text = ''] = /^\d+@(\d+\.\d+):(\w+) (.*)$/.exec(line) ?? [];
  const base = { ...where, atMs: Number(atSec) * 1_000 };
  if (event === 'vm_state_notify') return [{ ...base, kind: text.startsWith('running 1') ? 'running' : 'standing' }];
  if (event === 'migrate_set_state') return [{ ...base, kind: 'migration', state: text.replace('new state ', '') }];
  if (event !== 'handle_qmp_command') return [];
  const [, monitor = '', request = ''] = /^mon (\S+) req: (.*)$/.exec(text) ?? [];
  const { execute } = requestSchema.parse(JSON.parse(request));
  return [{ ...base, kind: 'command', command: execute, monitor }];
}

const READS = /^(query-|qmp_capabilities$|human-monitor-command$|pmemsave$)/;

/** Commands that change something. */
export function steering(traced: readonly Traced[]): (Traced & { readonly kind: 'command' })[] {
  return traced.filter((one) => one.kind === 'command').filter(({ command }) => !READS.test(command));
}

/** Between the last stop at the source and the first step at the destination, ms. */
export function standstillMs(traced: readonly Traced[], source: string): number {
  const stood = traced.findLast(({ kind, host }) => kind === 'standing' && host === source);
  const went = traced.find(
    ({ kind, host, atMs }) => kind === 'running' && host !== source && atMs > (stood?.atMs ?? 0),
  );
  if (stood === undefined || went === undefined) throw new Error(`no switchover from ${source} in the log`);
  return went.atMs - stood.atMs;
}
