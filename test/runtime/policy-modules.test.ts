/** Policies of the user's own: what is loaded, what is refused, and what becomes of a choice that is none. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Candidate, PolicyView } from '../../src/convergence/policy-behaviour.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import { packageFile } from '../../src/runtime/fleet-source.ts';
import { loadPolicies } from '../../src/runtime/policy-modules.ts';
import { prediction } from '../cli/records.ts';

let directory = '';
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'hostevac-policies-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const candidate = (share: number, endsInTime: number): Candidate => ({
  share,
  begins: 'now',
  expectedHarmCpuMs: 0,
  expectedTotalMs: 0,
  expectedEndMs: 0,
  endsInTime,
  prediction: prediction({ endsInTime, minShare: share }),
});
const view = (over: Partial<PolicyView> = {}): PolicyView => ({
  policy: POLICY_PRESETS.maintenance,
  candidates: [candidate(1, 0), candidate(0.6, 0.95), candidate(0.2, 1)],
  elapsedMs: 0,
  pass: 2,
  timeLeftMs: 600_000,
  spentHarmCpuMs: 0,
  leastHarmCpuMs: 0,
  share: 1,
  demandCores: 1,
  othersWait: false,
  ...over,
});

describe('a policy module', () => {
  it('says what it requires beside the preset, and chooses', async () => {
    await writeFile(
      join(directory, 'own.mjs'),
      "export default { name: 'own', what: 'x', choose: ({ candidates }) => ({ candidate: candidates[1], why: 'the second' }) };",
    );
    await writeFile(
      join(directory, 'strict.mjs'),
      "export default { name: 'strict', what: 'x', requirements: { maxStall: '50ms', minCpu: 0.5, controller: 'rfc2011' }, choose: (view) => ({ candidate: view.candidates[0], why: 'x' }) };",
    );
    const policies = [
      { name: 'own', module: './own.mjs' },
      { name: 'strict', module: join(directory, 'strict.mjs') },
    ];
    const { catalogue, behaviours } = await loadPolicies({ policies }, directory);
    expect([...catalogue.keys()]).toEqual(['maintenance', 'rebalance', 'emergency', 'own', 'strict']);
    expect(catalogue.get('own')).toEqual({ ...POLICY_PRESETS.maintenance, name: 'own' });
    expect(catalogue.get('strict')).toMatchObject({
      maxStallMs: 50,
      minCpuShare: 0.5,
      controller: 'rfc2011',
      precedence: ['minCpu', 'maxTime', 'maxBandwidth'],
    });
    expect(behaviours.get('own')?.choose(view())).toMatchObject({ candidate: { share: 0.6 }, why: 'the second' });
  });

  it('may use what it has, as `this`', async () => {
    await writeFile(
      join(directory, 'own.mjs'),
      "export default { name: 'own', what: 'a test', choose(view) { return { candidate: view.candidates[0], why: this.what }; } };",
    );
    const { behaviours } = await loadPolicies({ policies: [{ name: 'own', module: './own.mjs' }] }, directory);
    expect(behaviours.get('own')?.choose(view()).why).toBe('a test');
  });

  it('all that is wrong with all of them is said at once', async () => {
    const write = (name: string, text: string) => writeFile(join(directory, name), text);
    await write('none.mjs', 'export const policy = 1;');
    await write('broken.mjs', 'export default {');
    await write('other.mjs', "export default { name: 'another', what: 'x', choose() {} };");
    await write(
      'wrong.mjs',
      "export default { name: 'wrong', requirements: { aggression: 2, policy: 'maintenance' }, chose() {} };",
    );
    const names = ['missing', 'none', 'broken', 'other', 'wrong'];
    const policies = names.map((name) => ({ name, module: `./${name}.mjs` }));
    const error = await loadPolicies({ policies }, directory).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof HostevacError)) throw new Error('nothing was refused');
    expect(error.code).toBe('badInput');
    expect(error.problems.map(({ path }) => path)).toEqual([
      'policies[0].module',
      'policies[1].module',
      'policies[2].module',
      'policies[3] (./other.mjs).name',
      'policies[4] (./wrong.mjs).what',
      'policies[4] (./wrong.mjs).requirements.aggression',
      'policies[4] (./wrong.mjs).requirements.policy',
      'policies[4] (./wrong.mjs).chose',
    ]);
    expect(error.problems.map(({ remedy }) => remedy)).not.toContain('');
    expect(error.message).toContain('did you mean choose?');
  });

  it('the example does what it says', async () => {
    const example = packageFile('docs/examples/gentle-nights.mjs') ?? '';
    const policies = [{ name: 'gentle-nights', module: example }];
    const { catalogue, behaviours } = await loadPolicies({ policies }, directory);
    expect(catalogue.get('gentle-nights')).toMatchObject({ aggression: 0, minCpuShare: 0.3, maxTimeMs: 1_800_000 });
    const choose = (over: Partial<PolicyView>) => behaviours.get('gentle-nights')?.choose(view(over)).candidate.share;
    const early = { elapsedMs: 100_000, timeLeftMs: 500_000 };
    const late = { elapsedMs: 400_000, timeLeftMs: 200_000 };
    expect(choose({ ...early, candidates: [candidate(1, 0.2), candidate(0.8, 0.97)] })).toBe(0.8);
    expect(choose({ ...early, candidates: [candidate(1, 0.2), candidate(0.4, 0.97)] })).toBe(1);
    expect(choose({ ...late, candidates: [candidate(1, 0.2), candidate(0.4, 0.97), candidate(0.3, 1)] })).toBe(0.4);
    expect(choose({ ...late, candidates: [candidate(1, 0.2), candidate(0.3, 0.4)] })).toBe(0.3);
  });
});
