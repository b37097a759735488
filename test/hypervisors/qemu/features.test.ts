/** What each QEMU is refused for, and what is done without what it lacks: as a table. */
import { describe, expect, test } from 'vitest';
import { featuresOf } from '../../../src/hypervisors/qemu/features.ts';

const ALL = ['events', 'return-path', 'pause-before-switchover', 'postcopy-ram', 'postcopy-preempt', 'auto-converge'];

function qemu(version: string, kvm: boolean, capabilities: readonly string[] = ALL) {
  const [major = 0, minor = 0, micro = 0] = version.split('.').map(Number);
  return featuresOf({ version: { major, minor, micro }, kvm, capabilities: new Set(capabilities) });
}

describe('refused', () => {
  test.each([
    ['10.0.2', false, null],
    ['9.0.0', false, null],
    ['8.2.9', false, /QEMU 8\.2\.9 without KVM .* loses dirty pages.*9\.0 or later/],
    ['7.2.0', false, /loses dirty pages/],
    ['7.2.0', true, null],
    ['2.12.0', true, null],
    ['2.11.2', true, /QEMU 2\.11\.2 is older than 2\.12/],
    ['1.5.3', true, /older than 2\.12/],
  ])('%s with KVM %s: %s', (version, kvm, refusal) => {
    const { refusal: said } = qemu(version, kvm);
    if (refusal === null) expect(said).toBeNull();
    else expect(said).toMatch(refusal);
  });
});

const NO_LOOKS = ['measuring how a guest dirties', 'looking at more pages', 'looks at a guest'];

const NO_POST_COPY = ['post-copy that can be recovered', 'preemption in post-copy'];

describe('done without', () => {
  test.each([
    ['10.0.2', ALL, []],
    ['8.2.0', ALL, []],
    ['8.1.5', ALL, ['looks at a guest of less than a second']],
    ['6.1.0', ALL, ['preemption in post-copy', 'looks at a guest']],
    ['6.0.0', ALL, ['preemption in post-copy', 'looking at more pages', 'looks at a guest']],
    ['5.2.0', ALL, ['preemption in post-copy', 'listing what blocks', 'looking at more pages', 'looks at a guest']],
    ['3.1.0', ALL, ['preemption in post-copy', 'telling the port', 'listing what blocks', ...NO_LOOKS]],
    [
      '2.12.0',
      ALL,
      [
        'max-postcopy-bandwidth',
        'post-copy that',
        'preemption in',
        'telling the port',
        'listing what blocks',
        ...NO_LOOKS,
      ],
    ],
    ['10.0.2', ['events'], ['return path', 'pause before switchover', ...NO_POST_COPY]],
    ['10.0.2', [], ['migration events', 'return path', 'pause before switchover', ...NO_POST_COPY]],
  ])('%s with %j: %j', (version, capabilities, missing) => {
    const { degradations } = qemu(version, true, capabilities);
    expect(degradations).toHaveLength(missing.length);
    missing.forEach((name, index) => {
      expect(degradations[index]).toContain(`has no ${name}`);
    });
  });

  test('what is there is used, what is not is not asked for', () => {
    expect(qemu('10.0.2', true).has).toEqual({
      events: true,
      returnPath: true,
      pauseBeforeSwitchover: true,
      postcopyBandwidth: true,
      postcopy: true,
      postcopyPreempt: true,
      portSearch: true,
      blockedReasons: true,
      dirtyRate: true,
      dirtyRateSamplePages: true,
      dirtyRateMilliseconds: true,
    });
    expect(qemu('3.1.0', true, ['events']).has).toMatchObject({ portSearch: false, pauseBeforeSwitchover: false });
  });
});
