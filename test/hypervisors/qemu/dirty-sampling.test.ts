/** What a look by page sampling asks of each QEMU, and that what its answer is said to be worth is true. */
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock/virtual-clock.ts';
import { dirtied, samplingLook } from '../../../src/hypervisors/qemu/dirty-sampling.ts';
import { featuresOf } from '../../../src/hypervisors/qemu/features.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function look(version: string, memoryBytes: number, windowMs: number) {
  const [major = 0, minor = 0, micro = 0] = version.split('.').map(Number);
  const { has } = featuresOf({ version: { major, minor, micro }, kvm: true, capabilities: new Set() });
  return samplingLook(has, memoryBytes, windowMs);
}

describe('a look', () => {
  test('is asked for in milliseconds where QEMU has them, else in whole seconds', () => {
    expect(look('10.0.2', GIB, 250)).toMatchObject({
      windowMs: 250,
      unitMs: 1,
      begin: { 'calc-time': 250, 'calc-time-unit': 'millisecond', 'sample-pages': 16_384 },
      ask: { 'calc-time-unit': 'millisecond' },
    });
    expect(look('8.1.0', GIB, 250)).toMatchObject({
      windowMs: 1_000,
      unitMs: 1_000,
      begin: { 'calc-time': 1, 'sample-pages': 16_384 },
      ask: {},
    });
    expect(look('8.1.0', GIB, 1_200)?.windowMs).toBe(2_000);
  });

  test('asks for no window that QEMU refuses', () => {
    expect(look('10.0.2', GIB, 1)?.begin['calc-time']).toBe(50);
    expect(look('10.0.2', GIB, 10 ** 9)?.begin['calc-time']).toBe(60_000);
    expect(look('7.2.0', GIB, 10 ** 9)?.begin['calc-time']).toBe(60);
    expect(look('10.0.2', GIB, 99.2)?.begin['calc-time']).toBe(100);
  });

  test('says nothing of pages to a QEMU that takes no number, and is not had before 5.2', () => {
    expect(look('6.0.0', GIB, 1_000)).toMatchObject({ pagesPerGib: 512, begin: { 'calc-time': 1 } });
    expect(Object.keys(look('6.0.0', GIB, 1_000)?.begin ?? {})).toEqual(['calc-time']);
    expect(look('5.1.0', GIB, 1_000)).toBeNull();
  });

  test.each([
    [0.125, 16_384],
    [1, 16_384],
    [4, 4_096],
    [64, 256],
    [128, 128],
    [1_024, 128],
  ])('at a guest of %d GiB samples %d pages per GiB: more memory, the same cost', (gib, pages) => {
    expect(look('10.0.2', gib * GIB, 100)?.begin['sample-pages']).toBe(pages);
  });
});

/** As migration/dirtyrate.c counts: pages drawn with replacement, whole MiB/s, rounded down. */
function qemuTells(random: () => number, dirtyBytes: number, terms: Terms): number {
  const pages = Math.floor((terms.memoryBytes / GIB) * terms.pagesPerGib);
  let found = 0;
  for (let page = 0; page < pages; page += 1) if (random() < dirtyBytes / terms.memoryBytes) found += 1;
  return Math.floor((found * (terms.memoryBytes / MIB) * 1_000) / (pages * terms.windowMs));
}
interface Terms {
  readonly memoryBytes: number;
  readonly pagesPerGib: number;
  readonly windowMs: number;
}

describe('its answer', () => {
  const LOOKS = 400;
  const cases: readonly [Terms, number][] = [50, 100, 250, 500, 1_000, 2_000].flatMap((windowMs) =>
    [3, 8, 40, 64, 200].flatMap((mib): [Terms, number][] => [
      [{ memoryBytes: 256 * MIB, pagesPerGib: 16_384, windowMs }, mib],
      [{ memoryBytes: 2_048 * MIB, pagesPerGib: 512, windowMs }, mib],
    ]),
  );

  test.each(cases)('%o, %d MiB dirtied: on average that much, scattered as is said', (terms, mib) => {
    const clock = new VirtualClock({ seed: mib * 1_000 + terms.windowMs + terms.pagesPerGib });
    const random = () => clock.random();
    const looks = Array.from({ length: LOOKS }, () => {
      // Anywhere between two whole MiB/s: rounding is an error only as long as nobody knows where.
      const trueBytes = (mib + (random() * terms.windowMs) / 1_000) * MIB;
      const told = dirtied({ ...terms, mibPerSec: qemuTells(random, trueBytes, terms) });
      return { off: told.bytes - trueBytes, ...told };
    });
    const mean = looks.reduce((sum, { off }) => sum + off, 0) / LOOKS;
    const rms = Math.sqrt(looks.reduce((sum, { off }) => sum + off ** 2, 0) / LOOKS);
    const told = Math.sqrt(looks.reduce((sum, { errorBytes }) => sum + errorBytes ** 2, 0) / LOOKS);
    expect(Math.abs(mean)).toBeLessThan((4 * told) / Math.sqrt(LOOKS));
    // Never too sure of it; rather less sure where there are but a few samples, by one more than was found.
    expect(told).toBeGreaterThan(rms * 0.85);
    expect(told).toBeLessThan(rms * 1.13 * Math.sqrt(1 + GIB / (mib * MIB * terms.pagesPerGib)));
  });

  test('finds the very count of samples in a short window, though only whole MiB/s are told', () => {
    for (let found = 0; found < 200; found += 1) {
      const { bytes } = dirtied({
        mibPerSec: Math.floor((found * 256 * 1_000) / (4_096 * 50)),
        windowMs: 50,
        pagesPerGib: 16_384,
        memoryBytes: 256 * MIB,
      });
      expect(bytes).toBe(found * 65_536);
    }
  });

  test('never tells more than the guest has, nor that anything is certain', () => {
    const all = dirtied({ mibPerSec: 5_120, windowMs: 50, pagesPerGib: 16_384, memoryBytes: 256 * MIB });
    expect(all.bytes).toBe(256 * MIB);
    expect(all.errorBytes).toBeGreaterThan(0);
    const none = dirtied({ mibPerSec: 0, windowMs: 50, pagesPerGib: 16_384, memoryBytes: 256 * MIB });
    expect(none.bytes).toBe(0);
    expect(none.errorBytes).toBeGreaterThanOrEqual(65_536 * 0.9);
  });
});
