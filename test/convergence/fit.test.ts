/** From looks to belief: made-up guests whose rate and working set are known, seeded noise as page sampling gives it. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DirtyModel, Estimate } from '../../src/convergence/dirty-model.ts';
import { dirtiedBytes } from '../../src/convergence/dirtying.ts';
import { fitDirtyModel } from '../../src/convergence/fit.ts';
import type { DirtyWindow } from '../../src/domain/prediction.ts';
import { numbersFrom } from '../support/random.ts';
import { factsOf, guestOf, look, type MadeUpGuest, MIB, measured, windowOf } from './guests.ts';

const DAY_MS = 86_400_000;
const WITHIN = 0.15;

function near({ value }: Estimate, truth: number): boolean {
  return value !== null && Math.abs(value / truth - 1) < WITHIN;
}

function bounds({ low, high }: Estimate, truth: number): boolean {
  return truth >= low && (high === null || truth <= high);
}

function share(results: readonly boolean[]): number {
  return results.filter((result) => result).length / results.length;
}

/** On a log scale, evenly. */
function between(low: number, high: number, number: () => number): number {
  return low * (high / low) ** number();
}

interface Fitted {
  readonly guest: MadeUpGuest;
  readonly model: DirtyModel;
  /** ms that it takes for its working set. */
  readonly roundMs: number;
}

/** Such that page sampling can tell at all: it draws one page in 16, so that 16 MiB are some 250 hits. */
function anyGuest(number: () => number): MadeUpGuest {
  const memoryMib = [128, 256, 512, 1_024][Math.floor(4 * number())] ?? 128;
  const tickHz = [64, 128, 256][Math.floor(3 * number())] ?? 64;
  const setMib = between(16, 0.9 * memoryMib, number);
  return guestOf(between(8, 1_500, number), setMib, number() < 0.5 ? 'sweep' : 'random', memoryMib, tickHz);
}

function fitted(guest: MadeUpGuest, number: () => number): Fitted {
  const { windows, spentMs } = measured(guest, number);
  const { rateBytesPerSec, workingSetBytes } = guest.curve;
  const model = fitDirtyModel(windows, factsOf(guest), spentMs);
  return { guest, model, roundMs: (workingSetBytes / rateBytesPerSec) * 1_000 };
}

describe('guests of all kinds, looked at for three seconds', () => {
  const number = numbersFrom(20);
  const all = Array.from({ length: 200 }, () => fitted(anyGuest(number), number));

  test('the rate is within 15% where it shows, in nine of ten', () => {
    const showing = all.filter(({ roundMs }) => roundMs > 100);
    expect(showing.length).toBeGreaterThan(100);
    const results = showing.map(({ guest, model }) => near(model.rateBytesPerSec, guest.curve.rateBytesPerSec));
    expect(share(results)).toBeGreaterThanOrEqual(0.9);
  });

  test('the working set is within 15% where it shows, in nine of ten', () => {
    const showing = all.filter(({ roundMs }) => roundMs < 1_500);
    expect(showing.length).toBeGreaterThan(100);
    const results = showing.map(({ guest, model }) => near(model.workingSetBytes, guest.curve.workingSetBytes));
    expect(share(results)).toBeGreaterThanOrEqual(0.9);
  });

  test('the bounds hold, wherever it does not show as well', () => {
    expect(
      share(all.map(({ guest, model }) => bounds(model.rateBytesPerSec, guest.curve.rateBytesPerSec))),
    ).toBeGreaterThanOrEqual(0.95);
    expect(
      share(all.map(({ guest, model }) => bounds(model.workingSetBytes, guest.curve.workingSetBytes))),
    ).toBeGreaterThanOrEqual(0.95);
  });

  test('a rate that shows in no look is a lower bound, and so is a working set', () => {
    const fast = all.filter(({ guest, roundMs }) => roundMs < (guest.curve.pattern === 'sweep' ? 40 : 10));
    const slow = all.filter(({ roundMs }) => roundMs > 6_000);
    expect(Math.min(fast.length, slow.length)).toBeGreaterThanOrEqual(5);
    for (const { model } of fast) expect(model.rateBytesPerSec).toMatchObject({ value: null, high: null });
    for (const { model } of slow) expect(model.workingSetBytes).toMatchObject({ value: null, high: null });
    for (const { model } of fast) expect(model.rateBytesPerSec.low).toBeGreaterThan(0);
    for (const { model } of slow) expect(model.workingSetBytes.low).toBeGreaterThan(0);
  });

  test('a pattern that is told is the right one', () => {
    const told = all.filter(({ model }) => model.pattern !== null);
    expect(told.length).toBeGreaterThan(20);
    expect(share(told.map(({ guest, model }) => model.pattern === guest.curve.pattern))).toBeGreaterThanOrEqual(0.95);
  });

  test('the hypotheses are a few tens, by descending weight, and all their weights are 1', () => {
    for (const { model } of all) {
      const weights = model.hypotheses.map(({ weight }) => weight);
      expect(weights.length).toBeGreaterThanOrEqual(10);
      expect(weights.length).toBeLessThanOrEqual(32);
      expect(weights).toEqual([...weights].sort((a, b) => b - a));
      expect(weights.reduce((sum, weight) => sum + weight, 0)).toBeCloseTo(1, 9);
    }
  });

  test('what they let expect spreads as far as what comes: nine of ten looks lie in their 90% interval', () => {
    const results = all.map(({ guest: { curve }, model }) => {
      const cpuMs = between(100, 4_000, number);
      const outcomes = model.hypotheses
        .map((hypothesis) => ({ bytes: dirtiedBytes(hypothesis, cpuMs), weight: hypothesis.weight }))
        .sort((a, b) => a.bytes - b.bytes);
      const truth = dirtiedBytes(curve, cpuMs);
      const below = outcomes.reduce((sum, { bytes, weight }) => sum + (bytes < truth ? weight : 0), 0);
      return below > 0.02 && below < 0.98;
    });
    expect(share(results)).toBeGreaterThanOrEqual(0.9);
  });
});

describe('what is not known', () => {
  test('without a look everything is possible, and nothing is told', () => {
    const model = fitDirtyModel([], factsOf(guestOf(1, 1, 'sweep', 1_024)), 0);
    const open = { value: null, low: 0, high: null };
    expect(model).toMatchObject({ rateBytesPerSec: open, workingSetBytes: open, pattern: null, change: null });
    const rates = model.hypotheses.map(({ rateBytesPerSec }) => rateBytesPerSec);
    const sets = model.hypotheses.map(({ workingSetBytes }) => workingSetBytes);
    expect(Math.max(...rates) / Math.min(...rates)).toBeGreaterThan(100);
    expect(Math.max(...sets) / Math.min(...sets)).toBeGreaterThan(20);
    expect(Math.max(...sets)).toBeLessThanOrEqual(1_024 * MIB);
  });

  test('an idle guest has an upper bound on its rate only', () => {
    const { model } = fitted(guestOf(0.08, 1, 'sweep', 128, 20), numbersFrom(4));
    expect(model.rateBytesPerSec).toMatchObject({ value: null });
    expect(model.rateBytesPerSec.low).toBeLessThan(0.08 * MIB);
    expect(model.rateBytesPerSec.high).toBeLessThan(8 * MIB);
    expect(model.workingSetBytes).toEqual({ value: null, low: 0, high: null });
  });

  test('a pass in which the guest comes round tells its working set, and of its rate how low it cannot be', () => {
    const pass = { atMs: 2_000, cpuMs: 2_000, bytes: 64 * MIB, errorBytes: MIB, source: 'pass' } as const;
    const again = { ...pass, atMs: 5_500, cpuMs: 3_500 };
    const model = fitDirtyModel([pass, again], factsOf(guestOf(160, 64, 'sweep', 256)), 5_500);
    expect(near(model.workingSetBytes, 64 * MIB)).toBe(true);
    expect(model.rateBytesPerSec).toMatchObject({ value: null, high: null });
    expect(model.rateBytesPerSec.low).toBeGreaterThan(20 * MIB);
  });

  test('a look at a throttled guest counts by the CPU time that it got', () => {
    const number = numbersFrom(8);
    const guest = guestOf(160, 64, 'sweep', 256);
    const windows = [60, 100, 200, 800, 1_500].map((cpuMs, index) => windowOf(look(guest, cpuMs, number), index));
    // Held to a tenth: ten times the wall time; nothing of that is in a window.
    const model = fitDirtyModel(windows, factsOf(guest), 30_000);
    expect(near(model.rateBytesPerSec, 160 * MIB)).toBe(true);
    expect(near(model.workingSetBytes, 64 * MIB)).toBe(true);
  });
});

const WINDOWS_MS = [50, 100, 250, 500, 1_500] as const;

function looksAt(guest: MadeUpGuest, number: () => number, fromMs: number): DirtyWindow[] {
  return WINDOWS_MS.map((windowMs, index) => windowOf(look(guest, windowMs, number), fromMs + 500 * index));
}

function width({ low, high }: Estimate): number {
  return (high ?? Number.POSITIVE_INFINITY) / low;
}

describe('old evidence', () => {
  const guest = guestOf(100, 80, 'sweep', 256);

  test('fades: the same looks say less, the older they are, but never nothing', () => {
    const windows = looksAt(guest, numbersFrom(2), 0);
    const widths = [2_000, 60_000, 600_000].map((nowMs) =>
      width(fitDirtyModel(windows, factsOf(guest), nowMs).rateBytesPerSec),
    );
    expect(widths).toEqual([...widths].sort((a, b) => a - b));
    expect(widths[2]).toBeGreaterThan(1.3 * (widths[0] ?? Number.NaN));
    expect(fitDirtyModel(windows, factsOf(guest), 600_000).rateBytesPerSec.low).toBeGreaterThan(0);
  });

  test('of an earlier migration says something when there is no other, and next to nothing beside live looks', () => {
    const earlier = looksAt(guestOf(20, 20, 'sweep', 256), numbersFrom(3), 0).map(
      (window): DirtyWindow => ({ ...window, source: 'history' }),
    );
    const live = looksAt(guest, numbersFrom(5), DAY_MS);
    const alone = fitDirtyModel(earlier, factsOf(guest), DAY_MS).hypotheses;
    const mean = alone.reduce((sum, { weight, rateBytesPerSec }) => sum + weight * Math.log(rateBytesPerSec), 0);
    expect(Math.exp(mean) / (20 * MIB)).toBeGreaterThan(0.5);
    expect(Math.exp(mean) / (20 * MIB)).toBeLessThan(2);
    const both = fitDirtyModel([...earlier, ...live], factsOf(guest), DAY_MS + 3_000);
    expect(near(both.rateBytesPerSec, 100 * MIB)).toBe(true);
    expect(near(both.workingSetBytes, 80 * MIB)).toBe(true);
    expect(both.change).toBeNull();
  });

  test('of an earlier migration hardly moves what live looks say, not even where it nearly agrees', () => {
    const earlier = looksAt(guestOf(140, 110, 'sweep', 256), numbersFrom(3), 0).map(
      (window): DirtyWindow => ({ ...window, source: 'history' }),
    );
    const live = looksAt(guest, numbersFrom(5), DAY_MS);
    const alone = fitDirtyModel(live, factsOf(guest), DAY_MS + 3_000);
    const both = fitDirtyModel([...earlier, ...live], factsOf(guest), DAY_MS + 3_000);
    for (const of of ['rateBytesPerSec', 'workingSetBytes'] as const) {
      expect(Math.abs((both[of].value ?? Number.NaN) / (alone[of].value ?? Number.NaN) - 1)).toBeLessThan(0.02);
    }
    expect(width(fitDirtyModel(earlier, factsOf(guest), DAY_MS).rateBytesPerSec)).toBeGreaterThan(2);
  });

  test('of an earlier migration fades over weeks', () => {
    const earlier = looksAt(guest, numbersFrom(3), 0).map((window): DirtyWindow => ({ ...window, source: 'history' }));
    const spread = (nowMs: number): number => {
      const { hypotheses } = fitDirtyModel(earlier, factsOf(guest), nowMs);
      const mean = hypotheses.reduce((sum, { weight, rateBytesPerSec }) => sum + weight * Math.log(rateBytesPerSec), 0);
      return hypotheses.reduce(
        (sum, { weight, rateBytesPerSec }) => sum + weight * (Math.log(rateBytesPerSec) - mean) ** 2,
        0,
      );
    };
    expect(spread(28 * DAY_MS)).toBeGreaterThan(1.3 * spread(DAY_MS));
  });
});

describe('a guest that begins to behave otherwise', () => {
  const before = guestOf(30, 60, 'sweep', 256);

  /** Five looks at one guest, so many at another. */
  function changed(after: MadeUpGuest, looks: number, seed: number, source: DirtyWindow['source']): DirtyModel {
    const number = numbersFrom(seed);
    const since = Array.from({ length: looks }, (_, index): DirtyWindow => {
      const windowMs = [250, 400, 150][index % 3] ?? 250;
      return { ...windowOf(look(after, windowMs, number), 5_000 + 2_000 * index), source };
    });
    return fitDirtyModel([...looksAt(before, number, 0), ...since], factsOf(before), 3_000 + 2_000 * looks + 200);
  }
  const seeds = Array.from({ length: 20 }, (_, index) => index + 1);

  for (const [what, after, words] of [
    ['four times as fast', guestOf(120, 60, 'sweep', 256), /since .* ago it dirties .* times as much: .* before that/],
    ['a quarter as fast', guestOf(7, 60, 'sweep', 256), /since .* ago it dirties only .*% of what it did: .*/],
    ['quiet', guestOf(0.01, 1, 'sweep', 256), /since .* ago it dirties next to nothing: .*/],
  ] as const) {
    test(`${what}: two looks are enough, and it is told in words`, () => {
      const models = seeds.map((seed) => changed(after, 2, seed, 'sampling'));
      expect(share(models.map(({ change }) => change !== null))).toBeGreaterThanOrEqual(0.9);
      for (const { change } of models.filter((model) => model.change !== null)) {
        expect(change?.what).toMatch(words);
        expect(change?.atMs).toBeGreaterThanOrEqual(2_000);
        expect(change?.atMs).toBeLessThanOrEqual(5_000);
      }
    });
  }

  test('one pass far off is enough, one look by sampling is not', () => {
    const after = guestOf(240, 120, 'sweep', 256);
    expect(share(seeds.map((seed) => changed(after, 1, seed, 'pass').change !== null))).toBeGreaterThanOrEqual(0.9);
    expect(seeds.every((seed) => changed(after, 1, seed, 'sampling').change === null)).toBe(true);
  });

  test('is believed to be as it is now, and may become again what it was', () => {
    const model = changed(guestOf(120, 60, 'sweep', 256), 3, 7, 'sampling');
    expect(near(model.rateBytesPerSec, 120 * MIB)).toBe(true);
    const asBefore = model.hypotheses.filter(({ rateBytesPerSec }) => rateBytesPerSec < 45 * MIB);
    const weight = asBefore.reduce((sum, hypothesis) => sum + hypothesis.weight, 0);
    expect(weight).toBeGreaterThan(0.05);
    expect(weight).toBeLessThan(0.15);
    expect(model.hypotheses.reduce((sum, hypothesis) => sum + hypothesis.weight, 0)).toBeCloseTo(1, 9);
  });

  test('is not seen in a guest that only scatters by 30%', () => {
    const number = numbersFrom(31);
    const gauss = (): number => Math.sqrt(-2 * Math.log(1 - number())) * Math.cos(2 * Math.PI * number());
    const results = Array.from({ length: 60 }, () => {
      const guest = anyGuest(number);
      const windows = [...WINDOWS_MS, 120, 1_300, 200, 1_300, 80, 1_300].map((windowMs, index): DirtyWindow => {
        const bytes = dirtiedBytes(guest.curve, windowMs) * Math.exp(0.3 * gauss());
        const fits = Math.min(guest.memoryBytes, bytes);
        return { atMs: 1_500 * index, cpuMs: windowMs, bytes: fits, errorBytes: 0.05 * fits, source: 'sampling' };
      });
      return fitDirtyModel(windows, factsOf(guest), 16_000).change === null;
    });
    expect(share(results)).toBeGreaterThanOrEqual(0.97);
  });
});

describe('nonsense', () => {
  const guest = guestOf(100, 40, 'random', 256);
  const sound = looksAt(guest, numbersFrom(6), 0);
  const good = sound[0] ?? { atMs: 0, cpuMs: 50, bytes: MIB, errorBytes: MIB, source: 'sampling' as const };
  const bad: DirtyWindow[] = [
    ...[Number.NaN, 0, -5, Number.POSITIVE_INFINITY].map((cpuMs) => ({ ...good, cpuMs })),
    ...[Number.NaN, -1, Number.POSITIVE_INFINITY, 300 * MIB].map((bytes) => ({ ...good, bytes })),
    ...[Number.NaN, -1, Number.POSITIVE_INFINITY].map((errorBytes) => ({ ...good, errorBytes })),
    ...[Number.NaN, Number.NEGATIVE_INFINITY].map((atMs) => ({ ...good, atMs })),
  ];

  test('is left out, wherever it stands', () => {
    const clean = fitDirtyModel(sound, factsOf(guest), 3_000);
    for (const window of bad) {
      expect(fitDirtyModel([window, ...sound], factsOf(guest), 3_000)).toEqual(clean);
      expect(fitDirtyModel([...sound, window], factsOf(guest), 3_000)).toEqual(clean);
    }
  });

  test('one look that went wrong does not outvote the others', () => {
    const wrong = { ...good, atMs: 2_500, cpuMs: 200, bytes: 0 };
    const model = fitDirtyModel([...sound, wrong], factsOf(guest), 3_000);
    expect(bounds(model.rateBytesPerSec, 100 * MIB)).toBe(true);
    expect(bounds(model.workingSetBytes, 40 * MIB)).toBe(true);
  });

  test('never throws, and gives guests that can be, whatever it is given', () => {
    const anything = fc.oneof(fc.double(), fc.double({ min: 0, max: 1e9, noNaN: true }));
    const window = fc.record({
      atMs: anything,
      cpuMs: anything,
      bytes: anything,
      errorBytes: anything,
      source: fc.constantFrom<DirtyWindow['source']>('sampling', 'pass', 'history'),
    });
    const facts = fc.record({ memoryBytes: anything, touchedBytes: anything, demandCores: anything });
    fc.assert(
      fc.property(fc.array(window, { maxLength: 12 }), facts, anything, (windows, of, nowMs) => {
        const { hypotheses } = fitDirtyModel(windows, of, nowMs);
        expect(hypotheses.length).toBeGreaterThan(0);
        for (const { rateBytesPerSec, workingSetBytes, weight } of hypotheses) {
          for (const value of [rateBytesPerSec, workingSetBytes])
            expect(value > 0 && Number.isFinite(value)).toBe(true);
          expect(weight).toBeGreaterThanOrEqual(0);
        }
        expect(hypotheses.reduce((sum, { weight }) => sum + weight, 0)).toBeCloseTo(1, 6);
      }),
      { numRuns: 60 },
    );
  });

  test('the same looks say the same, in whatever order and however often they are given', () => {
    const model = fitDirtyModel(sound, factsOf(guest), 3_000);
    expect(fitDirtyModel([...sound].reverse(), factsOf(guest), 3_000)).toEqual(model);
    expect(fitDirtyModel([...sound, ...sound], factsOf(guest), 3_000)).toEqual(model);
  });
});
