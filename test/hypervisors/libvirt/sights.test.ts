/** What a domain's state and job mean at either end of a migration. */
import { describe, expect, test } from 'vitest';
import { domainStats, jobStats } from '../../../src/hypervisors/libvirt/answers.ts';
import { type Seen, sighted, statusOf } from '../../../src/hypervisors/libvirt/sights.ts';

const UUID = '11111111-2222-4333-8444-000000000001';
const NOW_MS = 1_000_000;
const OURS = { migrationId: 'm1', destination: 'b', writtenAtMs: NOW_MS - 5_000, autostart: false, postCopy: false };

function seen(state: number, reason: number, job: string | null, record: Seen['record'] = OURS): Seen {
  const stats = domainStats(`Domain: 'x'\n  state.state=${state}\n  state.reason=${reason}\n`).get('x');
  if (stats === undefined) throw new Error('no stats');
  return { uuid: UUID, stats, job: job === null ? null : jobStats(job), record };
}

const NONE = 'Job type: 0\n';
const LEAVES = 'Job type: 2\n\noperation: 5\ntime_elapsed: 5000\nmemory_processed: 100\n';
const ENDING = 'Job type: 4\n\noperation: 5\ntime_elapsed: 0\n';
const [RUNNING, PAUSED, IN_SHUTDOWN] = [1, 3, 4];

describe('at its source', () => {
  test.each([
    ['while it is sent', seen(RUNNING, 1, LEAVES), 'running', 'active'],
    [
      'before the first byte',
      seen(RUNNING, 1, 'Job type: 2\n\noperation: 5\ntime_elapsed: 5000\n'),
      'running',
      'setup',
    ],
    ['while it stands still for the last bytes', seen(PAUSED, 2, LEAVES), 'postMigrate', 'switchover'],
    ['after it was ended while it stood still', seen(PAUSED, 2, ENDING), 'postMigrate', 'switchover'],
    ['after it was ended', seen(RUNNING, 6, ENDING), 'running', null],
    ['left by a daemon that died', seen(PAUSED, 2, NONE), 'postMigrate', null],
    ['in post-copy', seen(PAUSED, 12, LEAVES), 'postMigrate', 'postCopy'],
    ['in post-copy without a connection', seen(PAUSED, 13, LEAVES), 'postMigrate', 'postCopyPaused'],
    ['when all has been sent', seen(IN_SHUTDOWN, 0, LEAVES), 'shutOff', 'completed'],
    ['paused by its owner', seen(PAUSED, 1, NONE), 'paused', null],
  ])('%s', (_, one, state, status) => {
    expect(sighted(one, NOW_MS)).toMatchObject({ present: true, state, arriving: false });
    expect(statusOf(one)).toBe(status);
  });
});

describe('at its destination', () => {
  test.each([
    ['while its QEMU starts', seen(PAUSED, 11, null), 'incoming', false],
    ['while it waits', seen(PAUSED, 2, null), 'incoming', false],
    ['when it has arrived', seen(RUNNING, 2, NONE), 'running', false],
    ['in post-copy', seen(RUNNING, 10, null), 'running', true],
  ])('%s', (_, one, state, arriving) => {
    expect(sighted(one, NOW_MS)).toMatchObject({ present: true, state, arriving, outgoing: null });
  });
});

test('a migration is ours if its record is of its time', () => {
  const outgoing = (record: Seen['record']) => {
    const sighting = sighted(seen(RUNNING, 1, LEAVES, record), NOW_MS);
    return sighting.present ? sighting.outgoing : null;
  };
  expect(outgoing(OURS)).toEqual({ status: 'active', destination: 'b', migrationId: 'm1' });
  const foreign = { status: 'active', destination: null, migrationId: null };
  expect(outgoing({ ...OURS, writtenAtMs: NOW_MS - 600_000 })).toEqual(foreign);
  expect(outgoing(null)).toEqual(foreign);
});
