/** What two sightings of a VM in post-copy mean; the rest of the table is taken by the stories of transitions.test.ts. */
import { describe, expect, it } from 'vitest';
import type { OutgoingStatus, Sighting, VmRunState } from '../../src/hypervisors/hypervisor.ts';
import { type AssessedMove, assess, type Seen } from '../../src/migration/assess.ts';

const move: AssessedMove = {
  id: 'm2',
  vm: 'v',
  uuid: 'u',
  source: 'a',
  destination: 'b',
  migrateSent: true,
  postCopy: false,
  earlierIds: new Set(['m1']),
};

function source(status: OutgoingStatus, over: { migrationId?: string | null; destination?: string } = {}): Sighting {
  const outgoing = { status, destination: 'b', migrationId: 'm2', ...over };
  return { present: true, uuid: 'u', state: 'postMigrate', arriving: false, outgoing };
}

function copy(state: VmRunState, arriving = false): Sighting {
  return { present: true, uuid: 'u', state, arriving, outgoing: null };
}

const GONE: Sighting = { present: false };
const verdict = (atSource: Seen, atDestination: Seen) => {
  const { verdict: said, reason } = assess(move, atSource, atDestination);
  return said === 'contradiction' || said === 'refused' ? `${said} ${reason.code}` : said;
};

describe('a VM in post-copy', () => {
  it.each<[string, Seen, Seen, string]>([
    ['going over', source('postCopy'), copy('incoming'), 'inPostCopy'],
    ['arriving', source('postCopy'), copy('running', true), 'inPostCopy'],
    ['arriving, the guest paused by its owner', source('postCopy'), copy('paused', true), 'inPostCopy'],
    ['waiting for its connection', source('postCopyPaused'), copy('running', true), 'inPostCopy'],
    ['whose destination says nothing', source('postCopyPaused'), null, 'inPostCopy'],
    ['of which all has arrived a moment ago', source('postCopy'), copy('running'), 'inPostCopy'],
    ['whose destination was looked at a moment earlier', source('completed'), copy('running', true), 'inPostCopy'],
    ['of an earlier move', source('postCopy', { migrationId: 'm1' }), copy('running', true), 'inPostCopy'],
    ['whose source was not told of the end', source('postCopyPaused'), copy('running'), 'finished'],
    ['that has arrived', source('completed'), copy('running'), 'finished'],
    ["somebody else's", source('postCopy', { migrationId: null }), copy('running', true), 'refused foreignMigration'],
    ['elsewhere', source('postCopy', { destination: 'c' }), GONE, 'refused foreignMigration'],
    ['whose destination is gone', source('postCopyPaused'), GONE, 'contradiction memoryLost'],
    ['whose destination was shut off', source('postCopy'), copy('shutOff'), 'contradiction memoryLost'],
    ['whose source is gone', GONE, copy('running', true), 'contradiction memoryLost'],
    ['whose source was shut off', copy('shutOff'), copy('running', true), 'contradiction memoryLost'],
    ['whose source has forgotten it', copy('postMigrate'), copy('running', true), 'contradiction memoryLost'],
    ['whose source says nothing', null, copy('running', true), 'unknown'],
    ['whose source runs it again', copy('running'), copy('running', true), 'contradiction vmDoubled'],
  ])('%s', (_, atSource, atDestination, expected) => {
    expect(verdict(atSource, atDestination)).toBe(expected);
  });

  it.each<[string, boolean, Seen, string]>([
    ['has arrived', true, copy('running'), 'finished'],
    ['has arrived, the guest paused by its owner', true, copy('paused'), 'finished'],
    ['still waits for memory', true, copy('running', true), 'unknown'],
    ['does not run there yet', true, copy('incoming'), 'unknown'],
    ['is shut off there', true, copy('shutOff'), 'unknown'],
    ['is not there', true, GONE, 'unknown'],
    ['does not answer there either', true, null, 'unknown'],
    ['was not seen in post-copy', false, copy('running'), 'unknown'],
  ])('whose source says nothing and that %s', (_, postCopy, atDestination, expected) => {
    expect(assess({ ...move, postCopy }, null, atDestination).verdict).toBe(expected);
    expect(assess({ ...move, postCopy, uuid: 'other' }, null, atDestination).verdict).toBe('unknown');
    expect(assess({ ...move, postCopy, uuid: null }, null, atDestination).verdict).toBe('unknown');
  });

  it('says what was seen where', () => {
    expect(assess(move, GONE, copy('running', true)).reason.message).toMatch(
      /SOURCE WAS LOST.*\(a does not have it; b has it running, waiting for memory from its source\)/,
    );
  });
});
