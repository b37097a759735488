import { CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import { exitCodeOf, exitCodeOfPlan } from '../../src/cli/exit.ts';
import { failureOf, wantsJson } from '../../src/cli/failure.ts';
import { type ErrorCode, HostevacError } from '../../src/domain/errors.ts';
import { type OperationState, operationStates } from '../../src/domain/operation.ts';

/** State, VMs that moved, reason -> exit code: the contract, row by row. */
const CONTRACT: readonly (readonly [OperationState, number, ErrorCode | null, number])[] = [
  ['done', 7, null, 0],
  ['done', 0, null, 0],
  ['partial', 3, 'noDestination', 3],
  ['partial', 0, 'noDestination', 4],
  ['blocked', 0, 'planBlocked', 4],
  ['failed', 0, 'internal', 1],
  ['failed', 2, 'vmDoubled', 1],
  ['cancelled', 0, 'cancelled', 1],
  ['cancelled', 2, 'cancelled', 3],
  ['partial', 3, 'deadlineExceeded', 5],
  ['failed', 0, 'deadlineExceeded', 5],
  ['blocked', 0, 'deadlineExceeded', 5],
  ['cancelled', 1, 'deadlineExceeded', 5],
  // Nobody waits for these to the end.
  ['queued', 0, null, 1],
  ['planning', 0, null, 1],
  ['awaitingApproval', 0, null, 1],
  ['running', 0, null, 1],
  ['paused', 0, null, 1],
];

describe('exit codes', () => {
  it.each(CONTRACT)('%s with %i moved and reason %s ends with %i', (state, moved, reason, code) => {
    expect(exitCodeOf({ state, moved, reason })).toBe(code);
  });

  it('every state has a row', () => {
    expect(new Set(CONTRACT.map(([state]) => state))).toEqual(new Set(operationStates));
  });

  it('a dry run ends with the code that the operation would have', () => {
    const planned = { vm: 'a', source: 'x', destination: 'y', why: '' };
    const blocked = { vm: 'b', reason: 'no room' };
    expect(exitCodeOfPlan({ moves: [], shutdowns: [], blocked: [] })).toBe(0);
    expect(exitCodeOfPlan({ moves: [planned], shutdowns: [], blocked: [] })).toBe(0);
    expect(exitCodeOfPlan({ moves: [planned], shutdowns: [], blocked: [blocked] })).toBe(3);
    expect(exitCodeOfPlan({ moves: [], shutdowns: [], blocked: [blocked] })).toBe(4);
    const off = { vm: 'c', host: 'x', why: '' };
    expect(exitCodeOfPlan({ moves: [], shutdowns: [off], blocked: [] })).toBe(0);
    expect(exitCodeOfPlan({ moves: [], shutdowns: [off], blocked: [blocked] })).toBe(3);
  });
});

describe('a failed command', () => {
  const problem = { path: '--aggression', value: '-0.5', message: 'expected a number from 0 to 1', remedy: 'give 0.5' };

  it('lists every problem with its remedy, once', () => {
    const told = failureOf(
      new HostevacError('badInput', 'the command line has 1 problem', { problems: [problem] }),
      {},
    );
    expect(told.exitCode).toBe(2);
    expect(told.text).toBe(
      'hostevac: the command line has 1 problem\n  --aggression -0.5: expected a number from 0 to 1; give 0.5',
    );
    const listed = `1 problem:\n  --aggression: -0.5 - expected a number from 0 to 1; give 0.5`;
    expect(failureOf(new HostevacError('badInput', listed, { problems: [problem] }), {}).text).toBe(
      `hostevac: ${listed}`,
    );
  });

  it('is JSON with code, message and problems for those who asked for it', () => {
    expect(failureOf(new HostevacError('unknownHost', 'no such host'), {}).json).toEqual({
      error: { code: 'unknownHost', message: 'no such host', problems: [] },
    });
  });

  it('shows no stack trace, unless HOSTEVAC_DEBUG asks for one', () => {
    const error = new TypeError("reading 'x'");
    expect(failureOf(error, {}).text).not.toContain('exit.test');
    expect(failureOf(error, {}).text).toContain("reading 'x'");
    expect(failureOf(error, {}).exitCode).toBe(1);
    expect(failureOf(error, { HOSTEVAC_DEBUG: '1' }).text).toContain('exit.test');
    expect(failureOf(new HostevacError('redisAway', 'gone'), { HOSTEVAC_DEBUG: '1' }).text).toContain('exit.test');
  });

  it('is a usage error when commander says so, and none when help was asked for', () => {
    const unknown = failureOf(
      new CommanderError(1, 'commander.unknownCommand', "error: unknown command 'evacate'"),
      {},
    );
    expect(unknown).toEqual({
      exitCode: 2,
      text: '',
      json: { error: { code: 'badInput', message: "unknown command 'evacate'", problems: [] } },
    });
    expect(failureOf(new CommanderError(0, 'commander.helpDisplayed', '(outputHelp)'), {}).exitCode).toBe(0);
    expect(failureOf(new CommanderError(1, 'commander.help', '(outputHelp)'), {}).exitCode).toBe(2);
  });

  it('a control character in a message does nothing to the terminal', () => {
    expect(failureOf(new HostevacError('unknownVm', 'no VM "a\u001b[2J"'), {}).text).toBe(
      'hostevac: no VM "a\\x1b[2J"',
    );
  });

  it('JSON is recognised before commander has read anything', () => {
    expect(wantsJson(['evacuate', 'a', '-o', 'json'])).toBe(true);
    expect(wantsJson(['-ojson', 'status'])).toBe(true);
    expect(wantsJson(['--output=json'])).toBe(true);
    expect(wantsJson(['status', 'json'])).toBe(false);
  });
});
