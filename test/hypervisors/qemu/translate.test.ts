/** QEMU's words into the port's. */
import { describe, expect, test } from 'vitest';
import { type MigrateAnswer, migrateAnswer } from '../../../src/hypervisors/qemu/answers.ts';
import {
  copyStateOf,
  countersOf,
  failureOf,
  isArriving,
  isInFlight,
  isPostcopy,
  isUnderWay,
  migrationUri,
  outgoingStatusOf,
  runStateOf,
  uuidOf,
} from '../../../src/hypervisors/qemu/translate.ts';

const ram = {
  total: 67_641_344,
  remaining: 58_867_712,
  transferred: 7_882_161,
  mbps: 42.0264,
  'dirty-pages-rate': 1_842,
  'dirty-sync-count': 4,
  'page-size': 4_096,
};

test.each([
  ['running', 'running'],
  ['inmigrate', 'incoming'],
  ['postmigrate', 'postMigrate'],
  ['shutdown', 'shutOff'],
  ['preconfig', 'shutOff'],
  ['finish-migrate', 'paused'],
  ['io-error', 'paused'],
  ['prelaunch', 'paused'],
  ['internal-error', 'paused'],
  ['a state of a QEMU to come', 'paused'],
])('run state %s is %s', (qemu, ours) => {
  expect(runStateOf(qemu)).toBe(ours);
});

describe('the status of an outgoing migration', () => {
  const status = (text: string | undefined, runState = 'running', withRam = true) =>
    outgoingStatusOf(runState, { ...(text === undefined ? {} : { status: text }), ...(withRam ? { ram } : {}) });

  test.each([
    ['setup', 'running', 'setup'],
    ['active', 'running', 'active'],
    ['active', 'finish-migrate', 'switchover'],
    ['wait-unplug', 'running', 'active'],
    ['pre-switchover', 'finish-migrate', 'preSwitchover'],
    ['device', 'finish-migrate', 'switchover'],
    ['cancelling', 'running', 'active'],
    ['postcopy-device', 'finish-migrate', 'switchover'],
    ['postcopy-active', 'finish-migrate', 'postCopy'],
    ['postcopy-paused', 'finish-migrate', 'postCopyPaused'],
    ['postcopy-recover-setup', 'finish-migrate', 'postCopyPaused'],
    ['postcopy-recover', 'finish-migrate', 'postCopyPaused'],
    ['completed', 'postmigrate', 'completed'],
    ['failed', 'running', 'failed'],
    ['cancelled', 'running', 'cancelled'],
    ['a word of a QEMU to come', 'running', 'active'],
    ['none', 'running', null],
    [undefined, 'running', null],
  ])('%s of a %s VM is %s', (qemu, runState, ours) => {
    expect(status(qemu, runState)).toBe(ours);
  });

  test('is none where QEMU speaks of a migration that came in', () => {
    for (const word of ['setup', 'active', 'completed']) expect(status(word, 'inmigrate', false)).toBeNull();
    expect(status('completed', 'running', false)).toBeNull();
  });

  test('of a failed one comes without counters', () => {
    expect(status('failed', 'running', false)).toBe('failed');
    expect(status('cancelled', 'running', false)).toBe('cancelled');
    expect(status('setup', 'running', false)).toBe('setup');
  });

  test('is in flight until it has ended', () => {
    for (const one of ['setup', 'active', 'preSwitchover', 'switchover'] as const) expect(isInFlight(one)).toBe(true);
    for (const one of ['completed', 'failed', 'cancelled', null] as const) expect(isInFlight(one)).toBe(false);
  });

  test('is under way from its first to its last status, known or not', () => {
    const begun = ['setup', 'wait-unplug', 'active', 'device', 'cancelling', 'postcopy-recover', 'of-a-later-qemu'];
    expect(begun.filter((status) => !isUnderWay(status))).toEqual([]);
    expect([undefined, 'none', 'completed', 'failed', 'cancelled'].filter(isUnderWay)).toEqual([]);
  });

  test('post-copy is told from everything else: it is never ended', () => {
    expect(
      ['postcopy-active', 'postcopy-paused', 'postcopy-recover'].every((word) => isPostcopy({ status: word })),
    ).toBe(true);
    expect(isPostcopy({ status: 'active' })).toBe(false);
  });

  test('in post-copy the source is a copy that has left, the destination one that arrives', () => {
    const source = { status: 'postcopy-active', ram };
    const destination = { status: 'postcopy-paused' };
    expect(copyStateOf('finish-migrate', source)).toBe('postMigrate');
    expect(isArriving('finish-migrate', source)).toBe(false);
    expect(copyStateOf('running', destination)).toBe('running');
    expect(isArriving('running', destination)).toBe(true);
    // Its CPUs do not run yet.
    expect(isArriving('inmigrate', destination)).toBe(false);
    expect(copyStateOf('inmigrate', destination)).toBe('incoming');
    // The guest may still come back here.
    expect(copyStateOf('finish-migrate', { status: 'postcopy-device', ram })).toBe('paused');
    expect(isArriving('running', { status: 'completed' })).toBe(false);
  });
});

test('counters become bytes, and bytes per second', () => {
  expect(countersOf('active', { status: 'active', ram })).toEqual({
    pass: 4,
    remainingBytes: 58_867_712,
    transferredBytes: 7_882_161,
    totalBytes: 67_641_344,
    rateBytesPerSec: 5_253_300,
    dirtyRateBytesPerSec: 1_842 * 4_096,
    downtimeMs: null,
  });
  expect(countersOf('postCopy', { status: 'postcopy-active', downtime: 17, ram })).toMatchObject({ downtimeMs: 17 });
  expect(countersOf('active', { status: 'active', downtime: 17, ram })).toMatchObject({ downtimeMs: null });
  expect(countersOf('completed', { status: 'completed', downtime: 17, ram })).toMatchObject({ downtimeMs: 17 });
  expect(countersOf('active', { ram: { ...ram, 'dirty-sync-count': 0 } })).toMatchObject({ pass: 1 });
  expect(countersOf('failed', { status: 'failed' })).toBeNull();
});

test.each([
  ['Unable to write to socket: Broken pipe', 'linkFailed'],
  ['Unable to read from socket: Connection reset by peer', 'linkFailed'],
  ["Failed to connect to '10.0.0.2:49152': Connection refused", 'linkFailed'],
  ['Channel error: Input/output error', 'linkFailed'],
  ['failed to save SaveStateEntry with id(name): 1(ram): -5', 'linkFailed'],
  ['failed to save SaveStateEntry with id(name): 1(ram): -22', 'hypervisorRefused'],
  ['Device 0000:00:02.0 does not support migration', 'hypervisorRefused'],
])('a failure by %j is %s', (words, code) => {
  const answer: MigrateAnswer = { status: 'failed', 'error-desc': words };
  expect(failureOf('failed', answer, 'web-1')).toEqual({ code, message: expect.stringContaining(words) });
  expect(failureOf('cancelled', answer, 'web-1')).toBeNull();
});

test('addresses', () => {
  expect(migrationUri('10.0.0.1', 49_152)).toBe('tcp:10.0.0.1:49152');
  expect(migrationUri('fd00::1', 49_152, 49_215)).toBe('tcp:[fd00::1]:49152,to=49215');
  expect(migrationUri('[fd00::1]', 1, 1)).toBe('tcp:[fd00::1]:1');
});

test('a uuid of zeros is none', () => {
  expect(uuidOf('00000000-0000-0000-0000-000000000000')).toBeNull();
  expect(uuidOf('0F7B2F1E-5D0C-4C59-8A52-0D3AD0F3C0DE')).toBe('0f7b2f1e-5d0c-4c59-8a52-0d3ad0f3c0de');
});

test('what QEMU 10 says is read, with what it will say in later releases', () => {
  const said = { status: 'active', 'expected-downtime': 300, 'total-time': 1470, ram: { ...ram, 'new-counter': 1 } };
  expect(migrateAnswer.parse(said)).toEqual(said);
});
