/** `hostevac lab up|status|down`: real guests on this machine, under QEMU alone or libvirt, as a fleet to try everything on. */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { EXIT } from '../../domain/errors.ts';
import { formatRate, formatSize } from '../../domain/units.ts';
import { libvirtUri } from '../../lab/libvirt/config.ts';
import { type LabStatus, labStatus } from '../../lab/look.ts';
import { PROFILES } from '../../lab/profiles.ts';
import { logOf } from '../../lab/serve.ts';
import { type StartedLab, startLab } from '../../lab/start.ts';
import { stopLab } from '../../lab/stop.ts';
import { stateDir } from '../../runtime/state-dir.ts';
import type { Cli, Run } from '../cli.ts';
import { helpAfter, INTERRUPTIBLE_CODES, SIMPLE_CODES } from '../help.ts';
import { type LabUpFlags, labUpOptions } from '../lab-options.ts';
import { labStatusLines } from '../lab-text.ts';
import { catchInterrupt, exitCodeOfSignal, Interrupted } from '../signals.ts';
import { counted, shellWord } from '../text.ts';

export function addLab(program: Command, run: Run): void {
  const lab = program.command('lab').description('real QEMU guests on this machine, as a fleet to try everything on');
  addLabUp(lab, run);
  lab
    .command('status')
    .description('the guests: where they run, how fast they write, and whether their memory is whole')
    .option('--check', 'read all memory of every guest and check each page; stops each for about a second per GiB')
    .addHelpText(
      'after',
      helpAfter({
        notes: ['With --check it ends with 1 when a page is wrong, or a guest does not run exactly once.'],
        examples: [['hostevac lab status --check', 'after an evacuation: is everything still there?']],
        codes: INTERRUPTIBLE_CODES,
      }),
    )
    .action((options: { check?: boolean }) => run((cli) => status(cli, options.check === true)));
  lab
    .command('down')
    .description('end the lab: its guests, its hostevac up, its network and its files')
    .addHelpText(
      'after',
      helpAfter({
        notes: ['Also after a crash, and wherever the guests have been moved. A fleet file that was changed is kept.'],
        examples: [['hostevac lab down', 'twice is harmless']],
        codes: SIMPLE_CODES,
      }),
    )
    .action(() => run(down));
}

function addLabUp(lab: Command, run: Run): void {
  const profiles = Object.values(PROFILES).map(
    ({ name, memoryBytes, what }) => `  ${name.padEnd(7)} ${formatSize(memoryBytes).padStart(6)}  ${what}`,
  );
  lab
    .command('up')
    .description('start guests on host lab-a, write a fleet file, and run hostevac up for it in the background')
    .option('--driver <which>', 'qemu, or libvirt: a real libvirtd for each host (needs root), with --network', 'qemu')
    .option('--hosts <n>', 'lab-a, lab-b, ...', '3')
    .option('--guests <n>', 'how many (default: one of each profile named)')
    .option('--profile <a,b>', 'what they do, taken in turn', 'idle,mild,hot,big')
    .option('--egress <rate>', 'what all migrations out of a host may use together', '40MiB/s')
    .option('--spread', 'guests on all hosts in turn, not all on lab-a')
    .option('--network', 'each host in a network namespace with a rate-limited link (needs root and iproute2)')
    .option('--accel <which>', 'tcg, kvm, or auto: kvm where it really runs a guest', 'auto')
    .option('--fleet-file <file>', 'where the fleet file is written', 'fleet.yaml')
    .option('--no-serve', 'do not start hostevac up')
    .addHelpText(
      'after',
      helpAfter({
        notes: [
          'Needs qemu-system-x86_64, 9.0 or later where KVM does not work; --driver libvirt also libvirtd and virsh.',
          'Ctrl-C while it starts leaves nothing behind.',
          '',
          'Profiles:',
          ...profiles,
        ],
        examples: [
          ['hostevac lab up', 'then, in the same directory: hostevac evacuate lab-a --wait'],
          ['hostevac lab up --guests 2 --profile hot,random', 'two that must be throttled'],
          ['hostevac lab up --network --egress 20MiB/s', 'as root: a real link between the hosts'],
          ['hostevac lab up --driver libvirt --hosts 2', 'as root: two libvirtd, guests are their domains'],
        ],
        codes: INTERRUPTIBLE_CODES,
      }),
    )
    .action((flags: LabUpFlags) => run((cli) => up(cli, flags)));
}

async function up(cli: Cli, flags: LabUpFlags): Promise<number> {
  const { serve, ...options } = labUpOptions(flags);
  const interruption = catchInterrupt();
  try {
    const started = await startLab({
      ...options,
      stateDir: stateDir(cli.env),
      env: cli.env,
      serveWith: serve ? { env: cli.env, program: fileURLToPath(new URL('../main.js', import.meta.url)) } : null,
      signal: interruption.signal,
      progress: (line) => cli.output.remark(line),
    });
    cli.output.lines(upLines(cli, started, options.egressBytesPerSec));
    cli.output.result(upResult(started));
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    cli.output.remark('Interrupted; nothing of the lab is left.');
    return exitCodeOfSignal(error.signal);
  } finally {
    interruption.dispose();
  }
}

function upResult({ manifest, machine }: StartedLab): unknown {
  const { driver, place, hosts, guests, fleetFile, up: serving } = manifest;
  return {
    driver,
    place,
    accel: machine.accel,
    fleetFile: fleetFile?.path ?? null,
    hosts,
    guests,
    up: serving === null ? null : { pid: serving.process.pid, url: serving.url, log: logOf(place) },
  };
}

/** What is there, and what to try: lines to be pasted into the shell that this was typed in. */
function upLines(cli: Cli, { manifest, machine }: StartedLab, egressBytesPerSec: number): string[] {
  const { driver, hosts, guests, fleetFile, up: serving, place } = manifest;
  const file = fleetFile === null ? '' : relative('', fleetFile.path);
  const isDefault = file === 'fleet.yaml' && (cli.env['HOSTEVAC_FLEET'] ?? '') === '';
  const names = hosts.map(({ name }) => name).join(', ');
  return [
    `${counted(guests.length, 'guest')} (${machine.accel}) on ${names}; ${formatRate(egressBytesPerSec)} out of each; fleet file ${file}`,
    ...(serving === null
      ? []
      : [`hostevac up serves them: pid ${serving.process.pid}, ${serving.url}, ${logOf(place)}`]),
    '',
    'Now try:',
    ...(isDefault ? [] : [`  export HOSTEVAC_FLEET=${shellWord(fleetFile?.path ?? '')}`]),
    ...(serving === null ? [`  ${cli.command} up    # in another terminal`] : []),
    `  ${cli.command} evacuate lab-a --wait`,
    ...(driver === 'libvirt' ? hosts.slice(0, 1).map((host) => `  virsh -c ${shellWord(libvirtUri(host))} list`) : []),
    `  ${cli.command} lab status --check    # is every page of every guest still there?`,
    `  ${cli.command} lab down`,
  ];
}

async function status(cli: Cli, check: boolean): Promise<number> {
  const found = await look(cli, check);
  if (found === 'interrupted') return EXIT.interrupted;
  if (found === null) {
    cli.output.lines([`no lab is up; start one: ${cli.command} lab up`]);
    cli.output.result({ state: 'none', hosts: [], guests: [] });
    return EXIT.done;
  }
  const { manifest, copies, silent, missing, doubled, serving } = found;
  cli.output.lines(labStatusLines(found, cli.output.columns(), cli.output.paint));
  const hosts = manifest.hosts.map(({ name }) => name);
  const fleetFile = manifest.fleetFile?.path ?? null;
  cli.output.result({ state: manifest.state, serving, fleetFile, hosts, guests: copies, silent, missing, doubled });
  const wrong = copies.some(({ memory }) => memory !== null && memory.faults.length > 0);
  return check && (wrong || missing.length + doubled.length > 0) ? EXIT.failed : EXIT.done;
}

/** A guest that stands still to be checked must not be left like that by a Ctrl-C. */
async function look(cli: Cli, check: boolean): Promise<LabStatus | null | 'interrupted'> {
  const interruption = catchInterrupt();
  try {
    return await labStatus(stateDir(cli.env), { check, signal: interruption.signal });
  } catch (error) {
    if (error instanceof Interrupted) return 'interrupted';
    throw error;
  } finally {
    interruption.dispose();
  }
}

async function down(cli: Cli): Promise<number> {
  const stopped = await stopLab(stateDir(cli.env));
  if (stopped === null) cli.output.lines(['no lab is up']);
  else cli.output.lines([`the lab is down: ${counted(stopped.guests, 'guest')} ended, its files removed`]);
  for (const path of stopped?.kept ?? [])
    cli.output.remark(`${path} has been changed since the lab wrote it and is kept`);
  cli.output.result({ state: 'none', ended: stopped?.guests ?? 0, kept: stopped?.kept ?? [] });
  return EXIT.done;
}
