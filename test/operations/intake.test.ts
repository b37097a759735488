import { describe, expect, it } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import { PRESET_CATALOGUE } from '../../src/domain/policy.ts';
import type { OperationRequest } from '../../src/domain/request.ts';
import { balance, evacuation, goesOnOtherwise, type KnownNames } from '../../src/operations/intake.ts';

const known: KnownNames = {
  hosts: ['node-a', 'node-b', 'node-c'],
  vms: ['db-1', 'web-1', 'mail-1'],
  vmsOn: new Map([
    ['node-a', ['db-1', 'web-1']],
    ['node-b', ['mail-1']],
  ]),
  policies: PRESET_CATALOGUE,
};
const own = { aggression: 0 };

describe('VMs with a policy of their own', () => {
  it('those that are not there are taken, and it is said', () => {
    const { request, warnings } = evacuation(
      { host: 'node-a', overrides: { 'db-1': own, web1: own, 'mail-1': own, unheard: own } },
      known,
    );
    expect(Object.keys(request.overrides)).toEqual(['db-1', 'web1', 'mail-1', 'unheard']);
    expect(warnings).toEqual([
      'the policy given for web1 has no effect unless it comes to node-a: it is not there now; did you mean web-1?',
      'the policy given for mail-1 has no effect unless it comes to node-a: it is not there now (it is on node-b)',
      'the policy given for unheard has no effect unless it comes to node-a: it is not there now',
    ]);
  });

  it('where nobody knows what is on the host, nothing is said', () => {
    expect(evacuation({ host: 'node-c', overrides: { 'db-1': own } }, known).warnings).toEqual([]);
  });

  it('in a rebalance it is for a move', () => {
    const { request, warnings } = balance(
      { moves: [{ vm: 'db-1', to: 'node-b' }], overrides: { 'db-1': { minCpu: 0.9 }, 'web-1': own } },
      known,
    );
    expect(request.overrides['db-1']).toMatchObject({ name: 'rebalance', minCpuShare: 0.9 });
    expect(warnings).toEqual(['the policy given for web-1 has no effect: no move of this request is for it']);
  });

  it('a time for shutting down where nothing is shut down is said to have no effect', () => {
    const { request, warnings } = evacuation({ host: 'node-c', shutdownTimeout: '30s' }, known);
    expect(request).toMatchObject({ nonMigratable: 'block', shutdownTimeoutMs: 30_000 });
    expect(warnings).toEqual([expect.stringMatching(/has no effect: nothing is shut down unless/)]);
    const shutting = evacuation({ host: 'node-c', nonMigratable: 'label', shutdownTimeout: '30s' }, known);
    expect(shutting.warnings).toEqual([]);
  });

  it('whoever joins an evacuation that shuts VMs down, or does not, is told', () => {
    const { request: careful } = evacuation({ host: 'node-c' }, known);
    const { request: shutting } = evacuation({ host: 'node-c', nonMigratable: 'shutdown' }, known);
    const joined = (request: OperationRequest) => ({ id: 'ev-1', request, approvedAtMs: null });
    expect(goesOnOtherwise(careful, joined(shutting))).toEqual([
      expect.stringMatching(/says nonMigratable shutdown, not block/),
    ]);
    expect(goesOnOtherwise(careful, joined(careful))).toEqual([]);
  });

  it('whoever joins an evacuation that waits for approval, or does not, is told', () => {
    const { request: plain } = evacuation({ host: 'node-c' }, known);
    const { request: careful } = evacuation({ host: 'node-c', approveFirst: true }, known);
    expect([plain.approveFirst, careful.approveFirst]).toEqual([undefined, true]);
    const waiting = { id: 'ev-1', request: careful, approvedAtMs: null };
    const moved = [expect.stringMatching(/moves nothing before it is approved: hostevac approve ev-1/)];
    expect(goesOnOtherwise(plain, waiting)).toEqual(moved);
    expect(goesOnOtherwise(careful, waiting)).toEqual(moved);
    expect(goesOnOtherwise(plain, { ...waiting, approvedAtMs: 5 })).toEqual([]);
    const runs = { id: 'ev-1', request: plain, approvedAtMs: null };
    expect(goesOnOtherwise(careful, runs)).toEqual([expect.stringMatching(/does not wait for approval: it goes on/)]);
  });

  it('all that is wrong is said at once, each with its place', () => {
    const input = {
      host: 'node-a',
      policy: 'maintenence',
      nonMigratable: 'shutdwon' as never,
      shutdownTimeout: 'soon',
      overrides: { 'db-1': { aggression: 2 }, 'web-1': { policy: 'nightly', minCpu: 0.5 } },
    };
    try {
      evacuation(input, known);
    } catch (error) {
      if (!(error instanceof HostevacError)) throw error;
      expect(error.problems.map(({ path, remedy }) => [path, remedy])).toEqual([
        ['policy', 'did you mean maintenance?'],
        ['overrides.db-1.aggression', 'give a number from 0 to 1'],
        ['overrides.web-1.policy', 'give one of maintenance, rebalance, emergency'],
        ['nonMigratable', 'did you mean shutdown?'],
        ['shutdownTimeout', 'give a duration above zero, like 300ms, 30s, 10m or 1h30m'],
      ]);
      return;
    }
    throw new Error('it was taken');
  });
});

describe('a deadline within the notice of a move', () => {
  it.each([
    ['30s', 30_000, true],
    ['31s', 30_000, false],
    ['1s', 0, false],
  ])('%s with a notice of %i ms is warned of: %s', (deadline, noticeMs, isWarned) => {
    const moves = [{ vm: 'db-1', to: 'node-b' }];
    const said = [
      evacuation({ host: 'node-a', deadline }, { ...known, noticeMs }),
      balance({ moves, deadline }, { ...known, noticeMs }),
    ];
    const warning = 'the deadline of 30s passes before anything can begin: each move waits 30s after its notice';
    for (const { warnings } of said) expect(warnings).toEqual(isWarned ? [warning] : []);
  });
});

describe('a request that names very much', () => {
  const many: KnownNames = {
    ...known,
    vms: Array.from({ length: 20_000 }, (_, index) => `guest-${index}.production.example`),
  };
  const refused = (work: () => unknown): HostevacError => {
    try {
      work();
    } catch (error) {
      if (error instanceof HostevacError) return error;
      throw error;
    }
    throw new Error('it was taken');
  };

  it('ten thousand unknown VMs are told, the first hundred and how many more', () => {
    const moves = Array.from({ length: 10_000 }, (_, index) => ({
      vm: `gest-${index}.production.exampl`,
      to: 'node-b',
    }));
    const { code, problems } = refused(() => balance({ moves }, many));
    expect(code).toBe('unknownVm');
    expect(problems).toHaveLength(101);
    expect(problems[0]?.remedy).toContain('did you mean guest-0.production.example?');
    expect(problems.at(-1)?.message).toBe('9900 more are not listed');
  });

  it('so are VMs that are named twice, and policies for VMs that are not moved', () => {
    const moves = Array.from({ length: 10_000 }, () => ({ vm: 'db-1', to: 'node-b' }));
    expect(refused(() => balance({ moves }, known)).problems).toHaveLength(101);
    const overrides = Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`x-${index}`, own]));
    const { warnings } = balance({ moves: [{ vm: 'db-1', to: 'node-b' }], overrides }, known);
    expect(warnings).toHaveLength(101);
    expect(warnings.at(-1)).toBe('and 4900 more such policies');
    expect(evacuation({ host: 'node-a', overrides }, known).warnings).toHaveLength(101);
  });
});
