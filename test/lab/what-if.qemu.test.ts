/** `hostevac what-if` on a real guest: what is told of it before a migration is what the guest is made to do. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { predictionSchema } from '../../src/domain/prediction.ts';
import { describeWith } from '../support/needs.ts';
import { LabPlace } from './place.ts';

const MIB = 2 ** 20;
const PAGE = 4_096;
const OFF = 0.2;

const estimateSchema = z.object({ value: z.number().nullable(), low: z.number(), high: z.number().nullable() });
const answerSchema = z.looseObject({
  vm: z.string(),
  host: z.string(),
  bandwidthBytesPerSec: z.number(),
  measured: z.looseObject({ looks: z.array(z.unknown()), tookMs: z.number() }),
  model: z.looseObject({ rateBytesPerSec: estimateSchema, workingSetBytes: estimateSchema }),
  rows: z.array(
    z.looseObject({
      aggression: z.number().nullable(),
      share: z.number(),
      prediction: predictionSchema,
      breaks: z.array(z.looseObject({ requirement: z.string() })),
    }),
  ),
});

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'hostevac what-if on real guests', () => {
  let place: LabPlace;
  beforeEach(() => {
    place = new LabPlace();
  });
  afterEach(() => place.close());

  test('a hot guest: its rate and its set, no end without a throttle, and an end with every aggression', async () => {
    await place.lab({ profiles: ['hot'] });
    await place.startUp();
    const [copy] = place.copies();
    if (copy === undefined) throw new Error('the lab has no guest');
    const [began, before] = [performance.now(), await place.progressOf(copy)];
    const ended = await place.run('what-if', copy.vm, '-o', 'json');
    // Not what the profile says: on a busy machine the guest gets round to less. It counts what it writes itself.
    const [tookMs, after] = [performance.now() - began, await place.progressOf(copy)];
    const rate = ((after - before) * PAGE * 1_000) / tookMs;
    expect(ended.code, ended.stdout + ended.stderr).toBe(0);
    const answer = answerSchema.parse(JSON.parse(ended.stdout));
    const { rateBytesPerSec, workingSetBytes } = answer.model;
    const looks = answer.measured.looks.length;
    console.log(
      `${Math.round(tookMs)} ms, ${looks} looks; wrote ${Math.round(rate / MIB)} MiB/s; rate ${JSON.stringify(rateBytesPerSec)}, set ${JSON.stringify(workingSetBytes)}`,
    );
    expect(answer).toMatchObject({ vm: copy.vm, host: 'lab-a', bandwidthBytesPerSec: 40 * MIB });
    expect(Math.abs((rateBytesPerSec.value ?? 0) - rate) / rate).toBeLessThan(OFF);
    expect(Math.abs((workingSetBytes.value ?? 0) - 64 * MIB) / (64 * MIB)).toBeLessThan(OFF);

    const [free, ...throttled] = answer.rows;
    expect(free?.breaks.map(({ requirement }) => requirement)).toEqual(['maxTime']);
    expect(throttled).toHaveLength(11);
    for (const row of throttled) {
      expect(row.breaks).toEqual([]);
      expect(row.share).toBeLessThan(1);
      // 96 MiB at 40 MiB/s, and what is left of 64 MiB after that.
      expect(row.prediction.totalMs.value).toBeGreaterThan(2_400);
      expect(row.prediction.totalMs.value).toBeLessThan(30_000);
      expect(row.prediction.downtimeMs.value).toBeLessThanOrEqual(300);
    }
    // It was looked at and not touched: it runs where it was, and goes on.
    expect(place.only(copy.vm).host).toBe('lab-a');
    await place.goesOn(copy);
  }, 120_000);
});
