/** The peers' schedules, as their projects state them. */
import { expect, test } from 'vitest';
import { novaSchedule, OvirtLadder, ovirtLookMs } from './ladders.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

test("oVirt's ladder goes by how often what remains has grown, one step at most each time", () => {
  const ladder = new OvirtLadder(1_000);
  // Every look a new pass: more remains than at the last one.
  const steps = Array.from({ length: 11 }, (_, look) =>
    ladder.next({ elapsedMs: (look + 1) * 1_000, remainingBytes: look }),
  );
  expect(steps.map((step) => (step === null ? null : (step.downtimeMs ?? 'ends')))).toEqual([
    null, // the first look
    null, // grown once
    150,
    200,
    300,
    400,
    null, // six times are not more than six
    500,
    5_000,
    'ends',
    null,
  ]);
});

test("oVirt's ladder rests while less and less remains, and between its looks", () => {
  const ladder = new OvirtLadder(1_000);
  for (let look = 1; look < 50; look += 1) {
    expect(ladder.next({ elapsedMs: look * 1_000, remainingBytes: 1_000 - look })).toBeNull();
    expect(ladder.next({ elapsedMs: look * 1_000 + 500, remainingBytes: 5_000 })).toBeNull();
  }
});

test("oVirt's look is as long, in passes, as its ten seconds are for 8 GiB at 10 Gbit/s", () => {
  expect(ovirtLookMs({ touchedBytes: 8 * GIB }, 10e9 / 8)).toBeCloseTo(10_000, 3);
  expect(ovirtLookMs({ touchedBytes: 96 * MIB }, 40 * MIB)).toBeCloseTo(3_492, 0);
});

test("Nova's steps go from 50 to 500 ms in ten, 75 s for each GiB, and it forces the end after 800 s for each", () => {
  const small = { touchedBytes: 0.05 * GIB };
  expect(novaSchedule(small).forceAtMs).toBeCloseTo(40_000, 3);
  expect(novaSchedule(small).steps.map(({ downtimeMs }) => downtimeMs)).toEqual([
    50, 95, 140, 185, 230, 275, 320, 365, 410, 455, 500,
  ]);
  expect(novaSchedule(small).steps[1]?.atMs).toBeCloseTo(3_750, 3);
});

test('where that would be after the limit of the benchmark, all of it is shortened alike', () => {
  const { steps, forceAtMs } = novaSchedule({ touchedBytes: GIB });
  expect(forceAtMs).toBe(45_000);
  expect((steps[10]?.atMs ?? 0) / forceAtMs).toBeCloseTo(750 / 800, 6);
});
