import { describe, expect, it } from 'vitest';
import { displayWidth, plain } from '../../src/cli/text.ts';
import { whatIfLines } from '../../src/cli/what-if-text.ts';
import type { WhatIfRow } from '../../src/convergence/what-if.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import type { WhatIfAnswer } from '../../src/queue/producer.ts';
import { GiB, MiB, prediction } from './records.ts';

const look = (cpuMs: number) => ({ atMs: 0, cpuMs, bytes: 1, errorBytes: 1, source: 'sampling' as const });
const row = (aggression: number | null, share: number, over: Partial<WhatIfRow> = {}): WhatIfRow => ({
  aggression,
  chosen: aggression === 0.5,
  share,
  begins: share < 1 ? 'nextPass' : 'now',
  prediction: prediction({ minShare: share }),
  endsInTime: 1,
  breaks: [],
  why: 'gentler would cost more',
  ...over,
});
const answer = (over: Partial<WhatIfAnswer> = {}): WhatIfAnswer => ({
  vm: 'web-1',
  host: 'node-a',
  destination: 'node-b',
  destinationWhy: 'best fit of 2 hosts',
  state: 'running',
  migratingTo: null,
  guest: { memoryBytes: GiB, touchedBytes: 700 * MiB, demandCores: 0.5 },
  policy: POLICY_PRESETS.maintenance,
  path: {
    bytesPerSec: 40 * MiB,
    capacityBytesPerSec: 40 * MiB,
    freeBytesPerSec: 40 * MiB,
    narrowest: 'egress of node-a',
    waits: false,
  },
  bandwidthBytesPerSec: 40 * MiB,
  measured: { looks: [look(50), look(1_200)], tookMs: 2_900, earlierMigrations: 2 },
  model: {
    rateBytesPerSec: { value: 160 * MiB, low: 150 * MiB, high: 171 * MiB },
    workingSetBytes: { value: 64 * MiB, low: 62 * MiB, high: 66 * MiB },
    pattern: 'sweep',
    change: null,
  },
  rows: [
    row(null, 1, {
      prediction: prediction({ totalMs: { value: 1_200_000, low: 1_160_000, high: 1_200_000 }, minShare: 1 }),
      endsInTime: 0,
      breaks: [{ requirement: 'maxTime', why: 'no end within 10m' }],
    }),
    row(0, 0.2),
    row(0.1, 0.2),
    row(0.5, 0.1),
  ],
  relaxed: [],
  givesUp: null,
  ...over,
});
const lines = (over: Partial<WhatIfAnswer> = {}, columns = 160) => whatIfLines(answer(over), columns, plain);

describe('the answer of what-if', () => {
  it('what is known, what is assumed, a line for each group, and the one that the policy takes', () => {
    expect(lines()).toEqual([
      'web-1 on node-a: running, 1GiB (700MiB to be sent), uses 0.5 cores',
      'writes     160MiB/s (150..171MiB/s) over 64MiB (62..66MiB), one page after the other',
      'known from 2 looks of 50ms to 1.2s, 2.9s in all, and 2 earlier migrations',
      'sent with  40MiB/s (egress of node-a) to node-b (best fit of 2 hosts)',
      'policy     maintenance: aggression 0.5, min CPU 0.1, max stall 300ms, max time 10m per VM, then abort',
      '',
      'AGGRESSION   TOTAL          DOWNTIME            MEAN CPU  LEAST  HARM (CPU TIME)  KEEPS',
      'no throttle  no end         -                        70%   100%  -                not max time (no end within 10m)',
      '0..0.1       12s (10..15s)  210ms (180..240ms)       70%    20%  3s (2..5s)       all',
      '0.5 *        12s (10..15s)  210ms (180..240ms)       70%    10%  3s (2..5s)       all',
      '',
      '* is what the policy would do, throttled from the second pass on: gentler would cost more',
    ]);
  });

  it('bounds are told as bounds, and what nobody could measure as that', () => {
    const bound = { value: null, low: 2 * GiB, high: null };
    const model = {
      rateBytesPerSec: bound,
      workingSetBytes: { value: null, low: 0, high: 64 * MiB },
      pattern: null,
      change: null,
    };
    expect(lines({ model })[1]).toBe('writes     at least 2GiB/s over at most 64MiB');
    const nothing = { value: null, low: 0, high: null };
    const unknown = lines({
      model: { ...model, rateBytesPerSec: nothing, workingSetBytes: nothing },
      measured: { looks: [], tookMs: 0, earlierMigrations: 0 },
    });
    expect(unknown[1]).toBe('writes     nobody knows how much over nobody knows how much memory');
    expect(unknown[2]).toContain('nothing measured');
  });

  it('a guest that nobody need throttle has one line', () => {
    const text = lines({ rows: [row(null, 1), row(0, 1), row(0.5, 1), row(1, 1)] });
    expect(text.filter((line) => line.endsWith(' all'))).toHaveLength(1);
    expect(text.at(-1)).toBe('All aggressions are alike: gentler would cost more');
  });

  it('what gives way, what is done at the end of the time, and that another controller predicts nothing', () => {
    const policy = { ...POLICY_PRESETS.maintenance, controller: 'rfc2011' as const, atDeadline: 'postCopy' as const };
    const relaxed = [{ requirement: 'minCpu' as const, why: 'at 4% it could' }];
    expect(lines({ policy, relaxed, givesUp: 'cannot end within 8s' }).slice(-3)).toEqual([
      'gives way  min CPU: at 4% it could',
      'gives up   cannot end within 8s; then it goes on at its destination and fetches what is missing',
      'note       the figures are those of leastHarm; rfc2011 predicts nothing',
    ]);
  });

  it('what limits the bandwidth is told', () => {
    const sent = (over: Partial<WhatIfAnswer>) => lines(over)[3];
    const path = answer().path;
    expect(sent({ bandwidthBytesPerSec: 10 * MiB })).toContain("10MiB/s (the policy's cap)");
    expect(sent({ path: { ...path, freeBytesPerSec: 5 * MiB, waits: true } })).toContain(
      '(egress of node-a, of which 5MiB/s is free now: it would wait for its turn)',
    );
    const shared = { ...path, bytesPerSec: 30 * MiB, freeBytesPerSec: 30 * MiB };
    expect(sent({ path: shared, bandwidthBytesPerSec: 30 * MiB })).toContain(
      '(what is free now of 40MiB/s, egress of node-a)',
    );
    expect(sent({ destination: null, destinationWhy: 'no host has 1GiB free' })).toContain(
      'no host takes it now (no host has 1GiB free), the widest way out is assumed',
    );
  });

  it.each([
    ['paused', 'at 40MiB/s it is sent in about 18s, and nothing is throttled'],
    ['shutOff', 'no memory to send'],
    ['migrating', 'being migrated to node-c now'],
    ['postMigrate', 'does not run here'],
  ] as const)('%s: said in place of a table', (state, words) => {
    const text = lines({ state, migratingTo: 'node-c', model: null, rows: [] });
    expect(text).toHaveLength(2);
    expect(text[1]).toContain(words);
  });

  it.each([40, 80, 120])('the table fits %i columns', (columns) => {
    const table = lines({}, columns).slice(6, -2);
    for (const line of table) expect(displayWidth(line)).toBeLessThanOrEqual(columns);
  });
});
