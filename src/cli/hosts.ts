/** Host names as arguments: what is said about one that the fleet does not have. Pure. */
import { HostevacError, type Problem } from '../domain/errors.ts';
import { type Fleet, hostOf } from '../domain/fleet.ts';
import { printProblems, printValue } from '../domain/problems.ts';
import { nearest } from '../domain/suggest.ts';

/** More names than this are no help on a screen. */
const NAMES_SHOWN = 20;

/** What is wrong with a host's name, or null. `path` is the argument it was given as. */
export function hostProblem(fleet: Fleet, name: string, path: string): Problem | null {
  if (hostOf(fleet, name) !== undefined) return null;
  const names = fleet.hosts.map((host) => host.name);
  const near = nearest(name, names);
  const shown = names.slice(0, NAMES_SHOWN).join(', ');
  const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : '';
  return {
    path,
    value: printValue(name),
    message: 'the fleet has no such host',
    remedy: `${near === undefined ? '' : `did you mean ${near}? `}known hosts: ${shown}${more}`,
  };
}

/** Throws `unknownHost` for every name that the fleet does not have, all at once. */
export function requireHosts(fleet: Fleet, names: readonly string[], path: string): void {
  const problems = names.map((name) => hostProblem(fleet, name, path)).filter((problem) => problem !== null);
  if (problems.length > 0) throw unknownHosts(problems);
}

export function unknownHosts(problems: readonly Problem[]): HostevacError {
  const [first] = problems;
  const message =
    problems.length === 1 && first !== undefined
      ? `unknown host ${first.value}; ${first.remedy}`
      : `${problems.length} hosts are not in the fleet:\n${printProblems(problems)}`;
  return new HostevacError('unknownHost', message, { problems });
}
