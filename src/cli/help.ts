/** The standing texts of `--help`: exit codes, policies, how a command is called here. Pure. */
import { EXIT } from '../domain/errors.ts';
import { NON_MIGRATABLE_LABEL } from '../domain/non-migratable.ts';
import { POLICY_PRESETS } from '../domain/policy.ts';
import { policyText } from './status-text.ts';

/** What each exit code says, in the words of the contract. */
const MEANING: Readonly<Record<number, string>> = {
  [EXIT.done]: 'done (an already empty host, too)',
  [EXIT.failed]: 'failed or cancelled before any VM moved, or Redis away',
  [EXIT.usage]: 'wrong usage, bad input, unknown host, VM or operation',
  [EXIT.partial]: 'some VMs moved, not all',
  [EXIT.none]: 'no VM could be moved',
  [EXIT.deadline]: "the deadline of the operation or the wait's timeout passed",
  [EXIT.interrupted]: 'interrupted (Ctrl-C): an operation goes on',
};

/** For commands that do not wait for an operation. */
export const SIMPLE_CODES: readonly number[] = [EXIT.done, EXIT.failed, EXIT.usage];
/** For those of them that take a while. */
export const INTERRUPTIBLE_CODES: readonly number[] = [...SIMPLE_CODES, EXIT.interrupted];
/** For commands that may wait for one. */
export const WAITING_CODES: readonly number[] = [
  EXIT.done,
  EXIT.failed,
  EXIT.usage,
  EXIT.partial,
  EXIT.none,
  EXIT.deadline,
  EXIT.interrupted,
];

/** For `doctor`, whose codes say what it has found. */
export const DOCTOR_CODES: readonly (readonly [number, string])[] = [
  [EXIT.done, 'nothing is wrong; there may be warnings'],
  [EXIT.failed, 'at least one fault'],
  [EXIT.usage, 'wrong usage, unknown host'],
  [EXIT.interrupted, 'interrupted (Ctrl-C)'],
];

export interface HelpText {
  readonly examples: readonly (readonly [command: string, what: string])[];
  /** With a text of its own where the command has one. */
  readonly codes: readonly (number | readonly [number, string])[];
  readonly notes?: readonly string[];
}

/** What stands below the options: notes, examples, exit codes. */
export function helpAfter({ examples, codes, notes = [] }: HelpText): string {
  const width = Math.max(...examples.map(([command]) => command.length));
  return [
    '',
    ...(notes.length === 0 ? [] : [...notes, '']),
    'Examples:',
    ...examples.map(([command, what]) => `  ${command.padEnd(width)}  # ${what}`),
    '',
    'Exit codes:',
    ...codes.map((each) => {
      const [code, meaning = ''] = typeof each === 'number' ? [each, MEANING[each]] : each;
      return `  ${String(code).padStart(3)}  ${meaning}`;
    }),
  ].join('\n');
}

/** The presets with their figures, the default of this command first. */
export function policyNotes(fallback: keyof typeof POLICY_PRESETS): string[] {
  const presets = Object.values(POLICY_PRESETS).sort(
    (a, b) => Number(b.name === fallback) - Number(a.name === fallback),
  );
  return [
    `Policies (default: ${fallback}):`,
    ...presets.map((preset) => `  ${policyText(preset)}`),
    '',
    'Aggression trades depth against harm in all: 1 costs a guest least CPU time, 0 slows it most gently for up to 1.3 times that.',
  ];
}

/** What an evacuation may do with VMs that cannot be migrated. */
export const NON_MIGRATABLE_NOTES: readonly string[] = [
  'VMs that cannot be migrated (a device of the host is attached, ...):',
  '  block     it is listed with the reason, and the host is not done (the default)',
  '  skip      it is left where it is on purpose: done, but not empty',
  '  shutdown  its guest is asked to shut down when the others have left, never made to; blocked if it does not in time',
  '  label     shut down those whose own label says shutdown, block the others',
  `A VM's label ${NON_MIGRATABLE_LABEL}: block or skip comes before all of these, shutdown only with shutdown or label.`,
];

/** How the user calls this program: under npm and npx it is not on the PATH. */
export function commandName(env: NodeJS.ProcessEnv): string {
  return env['npm_lifecycle_event'] === undefined ? 'hostevac' : 'npx hostevac';
}
