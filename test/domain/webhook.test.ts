/** Webhooks of a fleet file: which events they want, and every fault at once. */
import { describe, expect, it } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { noticeMs, wants } from '../../src/domain/webhook.ts';
import { fleetHash } from '../../src/runtime/fleet-source.ts';
import { smallFleet } from '../cli/small-fleet.ts';

const parse = (webhooks: string) =>
  parseFleet(`${smallFleet()}webhooks:${webhooks}\n`, { format: 'yaml', name: 'fleet.yaml' });

describe('webhooks', () => {
  it.each([
    ['*', 'move.done', true],
    ['move.*', 'move.done', true],
    ['move.*', 'operation.done', false],
    ['move.done', 'move.done', true],
    ['move.done', 'move.donee', false],
    ['*.done', 'operation.done', true],
    ['*.done', 'operation.done.x', false],
    ['m*.d*e', 'move.done', true],
    ['mo*ove', 'move', false],
    ['move.d.ne', 'move.done', false],
  ])('%s wants %s: %s', (glob, kind, wanted) => {
    expect(wants({ events: [glob] }, kind)).toBe(wanted);
    expect(wants({ events: ['never', glob] }, kind)).toBe(wanted);
  });

  it('are read with their defaults; the longest notice counts; they are no part of what workers must agree on', () => {
    const fleet = parse(`
  - { name: a, url: 'https://hooks.example/x', secretEnv: A }
  - { name: b, url: 'http://127.0.0.1:1/', secretFile: b.secret, events: [operation.*], noticeBefore: 1m }
  - { name: c, url: 'https://hooks.example/c', secretEnv: A, noticeBefore: 10s }`);
    expect(fleet.webhooks[0]).toEqual({ name: 'a', url: 'https://hooks.example/x', secretEnv: 'A', events: ['*'] });
    expect(noticeMs(fleet.webhooks)).toBe(60_000);
    const without = parse(' []');
    expect(noticeMs(without.webhooks)).toBe(0);
    expect(fleetHash(fleet)).toBe(fleetHash(without));
  });

  it('every fault is told at once, and no password', () => {
    let error: unknown;
    try {
      parse(`
  - { name: 'a b', url: 'ftp://x', secretEnv: '1', events: ['move done'], noticeBefore: soon }
  - { name: two, url: 'https://me:hunter2@x/', secretEnv: A, secretFile: b }
  - { name: two, url: 'https://x/' }`);
    } catch (thrown) {
      error = thrown;
    }
    if (!(error instanceof HostevacError)) throw new Error('it was taken');
    expect(error.problems.map(({ path }) => path).sort()).toEqual([
      'webhooks[0].events[0]',
      'webhooks[0].name',
      'webhooks[0].noticeBefore',
      'webhooks[0].secretEnv',
      'webhooks[0].url',
      'webhooks[1].secretEnv',
      'webhooks[1].url',
      'webhooks[2]',
      'webhooks[2].name',
    ]);
    expect(JSON.stringify(error.problems)).not.toContain('hunter2');
    expect(error.message).not.toContain('hunter2');
  });
});
