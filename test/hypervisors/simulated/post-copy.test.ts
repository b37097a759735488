/** Post-copy in the simulator: where the guest runs, what it gets, what a broken connection and a death at either end do. */
import { describe, expect, test } from 'vitest';
import { guestCpuOf, sampleOf, sightingOf } from '../../../src/hypervisors/simulated/views.ts';
import { fleetOf, host, MIB, PureFleet, REFERENCE_GUEST } from './fleets.ts';

const at = { vm: 'ref', source: 'a', destination: 'b' };

function started(postCopy = true): PureFleet {
  const fleet = new PureFleet(fleetOf([host('a', [REFERENCE_GUEST]), host('b'), host('c')]));
  fleet.migrate('ref', 'a', 'b', { postCopy });
  return fleet;
}

/** After its first pass. */
function inPostCopy(): PureFleet {
  const fleet = started().later(2_000);
  expect(fleet.does({ kind: 'beginPostCopy', vm: 'ref', source: 'a' })).toBeNull();
  return fleet.later(100);
}

const sample = (fleet: PureFleet) => sampleOf(fleet.state, 'a', 'ref');
const source = (fleet: PureFleet) => sightingOf(fleet.state, 'a', 'ref');
const destination = (fleet: PureFleet) => sightingOf(fleet.state, 'b', 'ref');
const recover = (fleet: PureFleet) => fleet.does({ kind: 'recoverPostCopy', ...at });

describe('a migration that is switched to post-copy', () => {
  test('goes on at its destination after a short standstill, and needs its source until all is there', () => {
    const fleet = started().later(2_000);
    expect(fleet.does({ kind: 'beginPostCopy', vm: 'ref', source: 'a' })).toBeNull();
    expect(source(fleet)).toMatchObject({ state: 'running', outgoing: { status: 'switchover' } });
    expect(destination(fleet)).toMatchObject({ state: 'incoming', arriving: false });
    fleet.later(100);
    expect(source(fleet)).toMatchObject({ state: 'postMigrate', arriving: false, outgoing: { status: 'postCopy' } });
    expect(destination(fleet)).toMatchObject({ state: 'running', arriving: true, outgoing: null });
    expect(fleet.does({ kind: 'retire', vm: 'ref', source: 'a' })).toMatchObject({ code: 'hypervisorRefused' });
    const first = sample(fleet);
    expect(first?.remainingBytes).toBeGreaterThan(50 * MIB);
    fleet.later(1_000);
    expect((first?.remainingBytes ?? 0) - (sample(fleet)?.remainingBytes ?? 0)).toBeCloseTo(40 * MIB, -3);
    expect((sample(fleet)?.transferredBytes ?? 0) - (first?.transferredBytes ?? 0)).toBeCloseTo(40 * MIB, -3);
    fleet.later(1_000);
    expect(sample(fleet)?.status).toBe('completed');
    expect(sample(fleet)?.remainingBytes).toBeCloseTo(0);
    expect(sample(fleet)?.downtimeMs).toBeGreaterThanOrEqual(40);
    expect(sample(fleet)?.downtimeMs).toBeLessThanOrEqual(60);
    expect(destination(fleet)).toMatchObject({ state: 'running', arriving: false });
    expect(fleet.does({ kind: 'retire', vm: 'ref', source: 'a' })).toBeNull();
  });

  test('waits for pages at first, less and less, and never more than is told', () => {
    const fleet = inPostCopy();
    const got: number[] = [];
    let before = guestCpuOf(fleet.state, 'b', 'ref').gotCpuMs;
    for (let i = 0; i < 20; i += 1) {
      const now = guestCpuOf(fleet.later(100).state, 'b', 'ref').gotCpuMs;
      got.push((now - before) / 100);
      before = now;
    }
    expect(got[0]).toBeCloseTo(0.3);
    for (const [index, share] of got.entries()) expect(share).toBeGreaterThanOrEqual((got[index - 1] ?? 0) - 1e-9);
    expect(got.at(-1)).toBeCloseTo(1);
    const lost = got.reduce((sum, share) => sum + (1 - share) * 0.1, 0);
    expect(lost).toBeGreaterThan(0.5);
    expect(lost).toBeLessThan(0.9);
  });

  test('is refused where it was not started for it, harmless where it is in it, and has no way back', () => {
    const other = started(false);
    const begin = { kind: 'beginPostCopy', vm: 'ref', source: 'a' } as const;
    expect(other.does(begin)?.message).toMatch(/not started for post-copy/);
    expect(other.does({ kind: 'cancelMigration', vm: 'ref', source: 'a' })).toBeNull();
    expect(other.does(begin)?.message).toMatch(/not being migrated/);
    const fleet = inPostCopy();
    expect(fleet.does(begin)).toBeNull();
    expect(fleet.does({ kind: 'cancelMigration', vm: 'ref', source: 'a' })?.message).toMatch(/would lose the guest/);
    expect(fleet.does({ kind: 'discardIncoming', vm: 'ref', destination: 'b' })?.code).toBe('hypervisorRefused');
    fleet.later(60_000);
    expect(fleet.does(begin)).toBeNull();
    expect(sample(fleet)?.status).toBe('completed');
  });

  test('whose link is cut stands still until the link is back and it has been recovered', () => {
    const fleet = inPostCopy();
    fleet.fault({ kind: 'linkCut', from: 'a', to: 'b', durationMs: 30_000 });
    const cut = fleet.later(20_000);
    expect(sample(cut)).toMatchObject({ status: 'postCopyPaused', rateBytesPerSec: 0 });
    const still = guestCpuOf(cut.state, 'b', 'ref').gotCpuMs;
    expect(recover(cut)).toBeNull();
    expect(sample(cut.later(5_000))?.status).toBe('postCopyPaused');
    cut.later(10_000);
    expect(sample(cut)?.status).toBe('postCopyPaused');
    expect(guestCpuOf(cut.state, 'b', 'ref').gotCpuMs).toBe(still);
    expect(recover(cut)).toBeNull();
    expect(sample(cut)?.status).toBe('postCopy');
    cut.later(3_000);
    expect(sample(cut)?.status).toBe('completed');
    expect(guestCpuOf(cut.state, 'b', 'ref').gotCpuMs).toBeGreaterThan(still);
    expect(recover(cut)).toBeNull();
  });

  test('that the hypervisor breaks is paused, not ended', () => {
    const fleet = inPostCopy();
    fleet.fault({ kind: 'hypervisorError', vm: 'ref' });
    expect(sample(fleet)?.status).toBe('postCopyPaused');
    expect(recover(fleet)).toBeNull();
    expect(sample(fleet.later(3_000))?.status).toBe('completed');
  });

  test('whose source dies leaves a guest that waits for ever', () => {
    const fleet = inPostCopy();
    fleet.fault({ kind: 'vmDies', vm: 'ref', host: 'a' });
    const got = guestCpuOf(fleet.state, 'b', 'ref').gotCpuMs;
    fleet.later(60_000);
    expect(destination(fleet)).toMatchObject({ state: 'running', arriving: true });
    expect(guestCpuOf(fleet.state, 'b', 'ref').gotCpuMs).toBe(got);
  });

  test('whose destination dies waits at its source, which does not run it any more', () => {
    const fleet = inPostCopy();
    fleet.fault({ kind: 'hostDies', host: 'b' });
    fleet.later(60_000);
    expect(source(fleet)).toMatchObject({ state: 'postMigrate', outgoing: { status: 'postCopyPaused' } });
    expect(recover(fleet)?.code).toBe('hostUnreachable');
  });
});
