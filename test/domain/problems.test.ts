/** Problems: every fault of an input, each with its place, the value as given, what is wrong and what to do. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { HostevacError, type Problem } from '../../src/domain/errors.ts';
import { fleetSchema } from '../../src/domain/fleet.ts';
import { type ParseOptions, parseInput, printProblems, printValue } from '../../src/domain/problems.ts';
import { evacuateNodeInput } from '../../src/domain/request.ts';
import { valueAt } from '../../src/domain/schema-keys.ts';
import { nearest } from '../../src/domain/suggest.ts';
import { rateText } from '../../src/domain/units.ts';

function refused(schema: z.ZodType, value: unknown, options?: ParseOptions): HostevacError {
  try {
    parseInput(schema, value, options);
  } catch (error) {
    if (error instanceof HostevacError) return error;
    throw error;
  }
  throw new Error('expected it to be refused');
}

const problemsIn = (schema: z.ZodType, value: unknown): readonly Problem[] => refused(schema, value).problems;

const shapes = z.strictObject({
  rate: rateText.optional(),
  count: z.int().min(1).max(9).optional(),
  label: z.string().optional(),
  tags: z.array(z.string()).min(2).optional(),
  mode: z.enum(['running', 'paused']).optional(),
  flag: z.boolean().optional(),
  inner: z.strictObject({ egress: rateText, ingress: rateText }).optional(),
  rule: z
    .union([
      z.strictObject({ apart: z.array(z.string()) }),
      z.strictObject({ pinned: z.string(), hosts: z.string().optional() }),
    ])
    .optional(),
  fault: z
    .discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('linkCut'), from: z.string() }),
      z.strictObject({ kind: z.literal('hostDies'), host: z.string() }),
    ])
    .optional(),
  either: z.union([z.string(), z.number()]).optional(),
});

describe('the words for one fault', () => {
  test.each<[string, unknown, Omit<Problem, 'line'>]>([
    [
      'a text that is no rate',
      { rate: 'fast' },
      {
        path: 'rate',
        value: '"fast"',
        message: 'expected a rate above zero',
        remedy: 'give a rate above zero, like 40MiB/s or 10Gbit/s',
      },
    ],
    [
      'a unit that is nearly right',
      { rate: '10Gbps' },
      { path: 'rate', value: '"10Gbps"', message: 'expected a rate above zero', remedy: 'did you mean 10Gbit/s?' },
    ],
    [
      'another kind of value',
      { rate: true },
      {
        path: 'rate',
        value: 'true',
        message: 'expected a rate above zero',
        remedy: 'give a rate above zero, like 40MiB/s or 10Gbit/s',
      },
    ],
    [
      'a key without a value',
      { rate: null },
      {
        path: 'rate',
        value: 'null',
        message: 'is empty',
        remedy: 'give it a value: a rate above zero such as 40MiB/s or 10Gbit/s',
      },
    ],
    [
      'a fraction',
      { count: 1.5 },
      { path: 'count', value: '1.5', message: 'expected a whole number', remedy: 'give a whole number' },
    ],
    [
      'too small',
      { count: 0 },
      { path: 'count', value: '0', message: 'expected a number of at least 1', remedy: 'give a number of at least 1' },
    ],
    [
      'too big',
      { count: 10 },
      { path: 'count', value: '10', message: 'expected a number of at most 9', remedy: 'give a number of at most 9' },
    ],
    [
      'a quoted number',
      { count: '3' },
      { path: 'count', value: '"3"', message: 'expected a number', remedy: 'remove the quotes' },
    ],
    [
      'a bare number for text',
      { label: 7 },
      { path: 'label', value: '7', message: 'expected text', remedy: 'put it in quotes: "7"' },
    ],
    [
      'one for a list',
      { tags: 'a' },
      { path: 'tags', value: '"a"', message: 'expected a list', remedy: 'write it as a list: [a]' },
    ],
    [
      'a short list',
      { tags: ['a'] },
      { path: 'tags', value: '["a"]', message: 'expected at least 2 entries', remedy: 'give at least 2 entries' },
    ],
    [
      'a misspelled choice',
      { mode: 'runing' },
      { path: 'mode', value: '"runing"', message: 'expected one of running, paused', remedy: 'did you mean running?' },
    ],
    [
      'no choice at all',
      { mode: 'x' },
      { path: 'mode', value: '"x"', message: 'expected one of running, paused', remedy: 'give one of running, paused' },
    ],
    [
      'text for a map',
      { inner: 'x' },
      { path: 'inner', value: '"x"', message: 'expected a map (key: value)', remedy: 'give a map (key: value)' },
    ],
    [
      'something missing',
      { inner: { ingress: 1 } },
      {
        path: 'inner.egress',
        value: '',
        message: 'is missing',
        remedy: 'add egress: a rate above zero such as 40MiB/s or 10Gbit/s',
      },
    ],
    [
      'a misspelled key that was needed: one fault, not two',
      { inner: { egres: 5, ingress: 1 } },
      { path: 'inner.egres', value: '5', message: 'unknown key', remedy: 'did you mean egress?' },
    ],
    [
      'a key that is like no other',
      { inner: { egress: 5, ingress: 1, color: 'red' } },
      { path: 'inner.color', value: '"red"', message: 'unknown key', remedy: 'remove it' },
    ],
    [
      'a misspelled discriminator',
      { fault: { kind: 'linkcut' } },
      {
        path: 'fault.kind',
        value: '"linkcut"',
        message: 'expected one of linkCut, hostDies',
        remedy: 'did you mean linkCut?',
      },
    ],
    [
      'a missing discriminator',
      { fault: {} },
      { path: 'fault.kind', value: '', message: 'is missing', remedy: 'add kind: one of linkCut, hostDies' },
    ],
    [
      'a fault inside the branch that the discriminator names',
      { fault: { kind: 'hostDies', hots: 'a' } },
      { path: 'fault.hots', value: '"a"', message: 'unknown key', remedy: 'did you mean host?' },
    ],
    [
      'a key of another branch than the discriminator names',
      { fault: { kind: 'hostDies', host: 'a', fron: 'b' } },
      { path: 'fault.fron', value: '"b"', message: 'unknown key', remedy: 'remove it' },
    ],
    [
      'a fault inside the branch that fits best',
      { rule: { pinned: 3, hosts: 'a' } },
      { path: 'rule.pinned', value: '3', message: 'expected text', remedy: 'put it in quotes: "3"' },
    ],
    [
      'a misspelled key that tells the branch',
      { rule: { pined: 'a' } },
      { path: 'rule.pined', value: '"a"', message: 'unknown key', remedy: 'did you mean pinned?' },
    ],
    [
      'no branch at all',
      { either: [] },
      { path: 'either', value: '[]', message: 'expected text or a number', remedy: 'give text or a number' },
    ],
    [
      'another kind of root',
      'x',
      { path: '(root)', value: '"x"', message: 'expected a map (key: value)', remedy: 'give a map (key: value)' },
    ],
  ])('%s', (_, value, problem) => {
    expect(problemsIn(shapes, value)).toEqual([expect.objectContaining(problem)]);
  });

  test('a remedy stated where the check is made is the one that is shown', () => {
    const even = z.number().superRefine((value, ctx) => {
      if (value % 2 === 1)
        ctx.addIssue({ code: 'custom', message: 'odd numbers have no pair', params: { remedy: 'add one' } });
    });
    expect(problemsIn(even, 3)).toMatchObject([{ message: 'odd numbers have no pair', remedy: 'add one' }]);
    expect(
      problemsIn(
        z.number().refine(() => false, 'no'),
        3,
      ),
    ).toMatchObject([{ message: 'no', remedy: 'correct it' }]);
  });

  test('a map with a bad key says which', () => {
    const record = z.record(z.string().regex(/^[a-z]+$/, { error: 'expected lower-case letters' }), z.number());
    expect(problemsIn(record, { UP: 1 })).toMatchObject([{ path: 'UP', message: 'expected lower-case letters' }]);
  });
});

describe('all of them together', () => {
  const input = { rate: 'fast', count: 0, inner: { egress: 1 } };

  test('the error holds every problem, and its message has a line for each', () => {
    const error = refused(shapes, input, { what: 'shapes.yaml' });
    expect(error.code).toBe('badInput');
    expect(error.exitCode).toBe(2);
    expect(error.message).toBe(
      [
        'shapes.yaml has 3 problems:',
        '  rate: "fast" - expected a rate above zero; give a rate above zero, like 40MiB/s or 10Gbit/s',
        '  count: 0 - expected a number of at least 1; give a number of at least 1',
        '  inner.ingress: is missing; add ingress: a rate above zero such as 40MiB/s or 10Gbit/s',
      ].join('\n'),
    );
  });

  test('a caller may give another code and a prefix; two dashes make option names', () => {
    expect(refused(shapes, input, { code: 'internal' }).code).toBe('internal');
    expect(refused(shapes, { count: 0 }, { pathPrefix: 'moves[2]' }).problems[0]?.path).toBe('moves[2].count');
    expect(
      refused(evacuateNodeInput(), { host: 'a', minCpu: -1, aggression: -1 }, { pathPrefix: '--' }).problems,
    ).toMatchObject([
      { path: '--aggression', value: '-1', message: 'expected a number from 0 to 1' },
      { path: '--min-cpu' },
    ]);
  });

  test('what is right comes back parsed', () => {
    expect(parseInput(shapes, { rate: '1kB/s' })).toEqual({ rate: 1_000 });
  });

  test('a list too long to read is counted', () => {
    const many = Array.from({ length: 53 }, (_, index) => ({
      path: `p${index}`,
      value: '',
      message: 'is missing',
      remedy: 'add it',
    }));
    expect(printProblems(many).split('\n')).toHaveLength(51);
    expect(printProblems(many)).toMatch(/\.\.\. and 3 more$/);
  });

  test('a line is shown where there is one', () => {
    expect(printProblems([{ path: 'a', value: '1', message: 'is odd', remedy: 'add one', line: 7 }])).toBe(
      '  a (line 7): 1 - is odd; add one',
    );
  });

  test('whatever is given as a fleet: problems with a path, a message and a remedy, one per place, and no crash', () => {
    const keys = fc.constantFrom(
      'hosts',
      'name',
      'rules',
      'links',
      'driver',
      'simulated',
      'vms',
      'egress',
      '__proto__',
      'x',
    );
    const values = fc.letrec((tie) => ({
      any: fc.oneof(
        { depthSize: 'small' },
        fc.constantFrom('simulated', '10Gbit/s', null, 3, true, ''),
        tie('list'),
        tie('map'),
      ),
      list: fc.array(tie('any'), { maxLength: 4 }),
      map: fc.dictionary(keys, tie('any'), { maxKeys: 6 }),
    })).any;
    fc.assert(
      fc.property(values, (value) => {
        if (fleetSchema.safeParse(value).success) return;
        const { problems, message } = refused(fleetSchema, value);
        expect(problems.length).toBeGreaterThan(0);
        for (const problem of problems) {
          expect(problem.path).not.toBe('');
          expect(problem.message).not.toMatch(/^$|undefined|\[object|Invalid/);
          expect(problem.remedy).not.toMatch(/^$|undefined|\[object/);
          expect(problem.value.length).toBeLessThanOrEqual(160);
        }
        expect(new Set(problems.map(({ path }) => path)).size).toBe(problems.length);
        expect(message.split('\n').length).toBe(Math.min(problems.length, 51) + 1);
      }),
    );
  });
});

describe('values and suggestions', () => {
  test('only what was given counts as a value, not what every object has', () => {
    expect(valueAt({ a: [{ b: 1 }] }, ['a', 0, 'b'])).toBe(1);
    for (const path of [['constructor'], ['a', 'length', 0], ['a', 'b'], ['toString', 'name']])
      expect(valueAt({ a: 'text' }, path)).toBeUndefined();
  });

  test('of very many faults the first hundred are listed, and how many more there are, in little time', () => {
    const keys = Object.fromEntries(Array.from({ length: 50_000 }, (_, index) => [`aggresion${index}`, index]));
    const either = z.union([
      z.strictObject({ one: evacuateNodeInput() }),
      z.strictObject({ two: evacuateNodeInput() }),
    ]);
    const items = z.strictObject({ items: z.array(z.strictObject({ name: z.string() })) });
    const nameless = { items: Array.from({ length: 5_000 }, () => ({ nmae: 'x', other: 1 })) };
    const fromMs = performance.now();
    for (const [schema, value] of [
      [evacuateNodeInput(), { host: 'a', ...keys }],
      [either, { one: { host: 'a', ...keys } }],
      [either, { host: 'a', ...keys }],
      [items, nameless],
    ] as const) {
      const { problems, message } = refused(schema, value);
      expect(problems.length).toBeLessThanOrEqual(101);
      expect(problems.at(-1)?.message).toMatch(/^\d+ more are not listed$/);
      expect(message).toContain('more than ');
    }
    expect(performance.now() - fromMs).toBeLessThan(5_000);
  });

  test('a value that is nested too deeply to be printed is not', () => {
    const deep = JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`);
    expect(printValue(deep)).toBe('[...]');
    expect(refused(evacuateNodeInput(), { host: deep, x: { deep } }).problems).toHaveLength(2);
  });

  test('a value is JSON on one line, cut at 80 characters, with nothing in it that moves a cursor', () => {
    expect(printValue({ a: [1, 'x'] })).toBe('{"a":[1,"x"]}');
    expect(printValue('x'.repeat(200))).toBe(`"${'x'.repeat(78)}…`);
    expect(Array.from(printValue('😀'.repeat(200)))).toHaveLength(80);
    expect(printValue('a\u009b2Jb\u2028c\nd')).toBe('"a\\u009b2Jb\\u2028c\\nd"');
    expect(printValue(undefined)).toBe('');
    expect(printValue(10n)).toBe('10');
  });

  test.each([
    ['egres', 'egress'],
    ['nmae', 'name'],
    ['Driver', 'driver'],
    ['dirty-rate', 'dirtyRate'],
    ['anti', 'antiAffinity'],
    ['zzz', undefined],
    ['x'.repeat(10_000), undefined],
  ])('%s means %s', (word, meant) => {
    expect(nearest(word, ['name', 'driver', 'egress', 'ingress', 'dirtyRate', 'antiAffinity', 'cpus'])).toBe(meant);
  });
});
