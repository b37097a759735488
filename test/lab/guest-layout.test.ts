/** A guest's parameters: what goes into its boot sector comes out of its memory, and what no guest can do is refused. */
import { describe, expect, test } from 'vitest';
import {
  type GuestParameters,
  guestImage,
  isGuestImage,
  PARAMETERS,
  parseParameters,
  RESERVED_BYTES,
} from '../../src/lab/guest/layout.ts';
import { PROFILE_NAMES, PROFILES, type ProfileName, parametersOf, profileNamed } from '../../src/lab/profiles.ts';

const MIB = 2 ** 20;
const HOT = parametersOf(PROFILES.hot, 350e6);

describe('the boot sector', () => {
  test.each(PROFILE_NAMES)('of %s says in its memory what it was made with', (name) => {
    const parameters = parametersOf(profileNamed(name), 350e6);
    const image = guestImage(parameters);
    expect(parseParameters(image.subarray(PARAMETERS))).toEqual(parameters);
    expect(image).toHaveLength(512);
    expect(image.readUInt16LE(510)).toBe(0xaa55);
    expect(isGuestImage(image)).toBe(true);
  });

  test('is not taken for a guest when it is none', () => {
    expect(parseParameters(Buffer.alloc(512))).toBeUndefined();
    expect(isGuestImage(Buffer.alloc(512))).toBe(false);
  });

  test('changes nothing in the program it is made from', () => {
    guestImage(HOT);
    const image = guestImage({ ...HOT, delayLoops: 1 });
    expect(parseParameters(image.subarray(PARAMETERS))?.delayLoops).toBe(1);
  });
});

test('every fault of impossible parameters is told at once', () => {
  const impossible: GuestParameters = {
    ...HOT,
    tickHz: 5,
    touchedBytes: 3_000 * MIB,
    phases: [{ ticks: 0, pagesPerTick: 1, workingSetBytes: MIB }],
  };
  expect(() => guestImage(impossible)).toThrow(/tickHz 5 .*touchedBytes 3145728000 .*phase 0: 0 ticks/);
  expect(() => guestImage({ ...HOT, phases: [] })).toThrow(/0 phases/);
  expect(() => guestImage({ ...HOT, touchedBytes: 32 * MIB })).toThrow(/working set 67108864/);
});

describe('profiles', () => {
  test.each(PROFILE_NAMES)('%s leaves the firmware its part of memory', (name) => {
    const { touchedBytes, memoryBytes } = profileNamed(name);
    expect(MIB + touchedBytes).toBeLessThanOrEqual(memoryBytes - RESERVED_BYTES);
  });

  test('rates are what they say, on every machine', () => {
    const mibPerSec = (name: ProfileName): number[] => {
      const { tickHz, phases } = profileNamed(name);
      return phases.map(({ pagesPerTick }) => (tickHz * pagesPerTick * 4_096) / MIB);
    };
    expect(PROFILE_NAMES.map((name) => [name, ...mibPerSec(name)])).toEqual([
      ['idle', 0.078125],
      ['mild', 15],
      ['hot', 160],
      ['brisk', 100],
      ['near', 36],
      ['big', 5],
      ['random', 160],
      ['bursty', 1, 160],
      ['fierce', 400],
      ['large', 120],
      ['turning', 160, 15, 160],
      ['pair', 120],
      ['reference', 164],
      ['spin', 160],
    ]);
  });

  test('a second CPU that has nothing to do still stops: no loops would be 2^32 of them', () => {
    expect(parametersOf(PROFILES.hot, 3e9).secondLoops).toBe(1);
    expect(() => guestImage({ ...HOT, secondLoops: 0 })).toThrow(/secondLoops 0/);
  });

  test('CPU use is the same share of a slow core as of a fast one', () => {
    const writesPerSec = 256 * 160;
    expect(parametersOf(PROFILES.hot, 100e6).delayLoops * writesPerSec).toBeCloseTo(0.5 * 100e6, -6);
    expect(parametersOf(PROFILES.pair, 3e9).secondLoops * 256).toBeCloseTo(0.3 * 3e9, -7);
    expect(parametersOf(PROFILES.hot, 3e9).delayLoops * writesPerSec).toBeCloseTo(0.5 * 3e9, -7);
  });
});
