/** What the simulation's log promises, in memory and in Redis. Two logs stand for two processes on one fleet. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Fleet } from '../../../src/domain/fleet.ts';
import { COMPACT_ABOVE, type SimulationLog } from '../../../src/hypervisors/simulated/log.ts';
import type { Command } from '../../../src/hypervisors/simulated/model.ts';
import { SimulatedFleet } from '../../../src/hypervisors/simulated/simulated-fleet.ts';
import { advance, apply, initialState } from '../../../src/hypervisors/simulated/step.ts';
import { guestCpuOf, sightingOf } from '../../../src/hypervisors/simulated/views.ts';
import { fleetOf, host, REFERENCE_GUEST } from './fleets.ts';

export interface LogHarness {
  /** Another process: a log of its own on the same entries. */
  process(): Promise<SimulationLog>;
  close(): Promise<void>;
}

export const LOG_FLEET: Fleet = fleetOf([host('a', [REFERENCE_GUEST]), host('b')], { simulation: { speed: 50 } });

const share = (value: number, token = 1): Extract<Command, { kind: 'setShare' }> => ({
  kind: 'setShare',
  token,
  vm: 'ref',
  host: 'a',
  share: value,
  validForMs: 1e9,
});

export function logBehaviour(name: string, open: () => Promise<LogHarness>): void {
  describe(`${name}: the simulation's log`, () => {
    let harness: LogHarness;
    beforeEach(async () => {
      harness = await open();
    });
    afterEach(() => harness.close());
    const fleet = async () => new SimulatedFleet({ fleet: LOG_FLEET, log: await harness.process() });

    test('an appender is told its place, and all that it had not read up to there', async () => {
      const [one, other] = [await harness.process(), await harness.process()];
      expect((await one.append(share(0.1), 0)).index).toBe(1);
      const answer = await other.append(share(0.2), 0);
      expect(answer.index).toBe(2);
      expect(answer.entries.map(({ index, command }) => [index, command])).toEqual([
        [1, share(0.1)],
        [2, share(0.2)],
      ]);
      expect((await one.readSince(1)).entries.map(({ index }) => index)).toEqual([2]);
      expect((await one.readSince(2)).entries).toEqual([]);
    });

    test('entries of many processes at once have one order, and times that never fall, before or after a read', async () => {
      const logs = await Promise.all([harness.process(), harness.process(), harness.process()]);
      let seenMs = 0;
      const answers = await Promise.all(
        logs.flatMap((log, process) =>
          Array.from({ length: 20 }, async (_, n) => {
            const { index } = await log.append(share(n / 20, process), 0);
            seenMs = Math.max(seenMs, (await log.readSince(0)).nowMs);
            return index;
          }),
        ),
      );
      expect(answers.toSorted((x, y) => x - y)).toEqual(Array.from({ length: 60 }, (_, n) => n + 1));
      const [first, second] = await Promise.all(logs.slice(0, 2).map((log) => log.readSince(0)));
      expect(first?.entries).toEqual(second?.entries);
      const times = first?.entries.map(({ atMs }) => atMs) ?? [];
      expect(times).toEqual(times.toSorted((x, y) => x - y));
      expect((await logs[0]?.append(share(1), 60))?.entries[0]?.atMs).toBeGreaterThanOrEqual(seenMs);
    });

    test('what one process does another sees at once, and a process that comes later sees it too', async () => {
      const [one, other] = [await fleet(), await fleet()];
      await one.send(share(0.5));
      expect(guestCpuOf(await other.view(), 'a', 'ref').share).toBe(0.5);
      await other.send({ kind: 'releaseShare', token: 1, vm: 'ref', host: 'a' });
      expect(guestCpuOf(await one.view(), 'a', 'ref').share).toBe(1);
      expect((await (await fleet()).view()).index).toBe(2);
    });

    test('a refusal reaches its sender, and nobody else', async () => {
      const [one, other] = [await fleet(), await fleet()];
      const results = await Promise.allSettled([
        one.send(share(0.5, 5)),
        other.send(share(0.4, 4)),
        one.send({ kind: 'retire', token: 5, vm: 'ref', source: 'a' }),
        other.send(share(0.3, 6)),
        one.inject({ kind: 'hostDies', host: 'nowhere' }),
      ]);
      const codes = results.map((result) => (result.status === 'rejected' ? result.reason.code : 'done'));
      // Which of the two processes comes first is open (all of the other's may come before any of the one's); an older token
      // loses only behind a newer one, and who has lost once has lost.
      expect(['done', 'leaseLost']).toContain(codes[0]);
      expect(['done', 'leaseLost']).toContain(codes[1]);
      expect(codes[0] === 'done' ? ['hypervisorRefused', 'leaseLost'] : ['leaseLost']).toContain(codes[2]);
      expect(codes[3]).toBe('done');
      expect(codes[4]).toBe('unknownHost');
    });

    test('a view is what folding the whole log gives, also for the process that compacted and one that was behind', async () => {
      const [writer, behind] = [await fleet(), await fleet()];
      await behind.view();
      const target = { vm: 'ref', source: 'a', destination: 'b', migrationId: 'm1', token: 1 };
      const commands: Command[] = [
        { kind: 'prepareDestination', ...target },
        {
          kind: 'startMigration',
          ...target,
          bandwidthBytesPerSec: 40 * 2 ** 20,
          downtimeLimitMs: 300,
          postCopy: false,
        },
      ];
      while (commands.length < COMPACT_ABOVE + 50) commands.push(share(0.3 + (commands.length % 7) / 10));
      let whole = initialState(LOG_FLEET);
      const plain = await harness.process();
      for (const command of commands) {
        if (command.kind === 'fault') continue;
        const before = (await writer.view()).index;
        await writer.send(command);
        // Folded beside it, entry by entry, from a log that is not compacted yet at that moment or has just been.
        for (const entry of (await plain.readSince(before)).entries) whole = apply(whole, entry).state;
        if (whole.index <= before) whole = await writer.view();
      }
      const log = await harness.process();
      const { snapshot, length } = await log.readSince(0);
      expect(snapshot?.index).toBe(COMPACT_ABOVE + 1);
      expect(length).toBe(commands.length - COMPACT_ABOVE - 1);
      const late = await (await fleet()).view();
      const [again, caughtUp] = [await writer.view(), await behind.view()];
      const toMs = Math.max(late.nowMs, again.nowMs, caughtUp.nowMs);
      expect(advance(late, toMs)).toEqual(advance(again, toMs));
      expect(advance(caughtUp, toMs)).toEqual(advance(again, toMs));
      expect(again.index).toBe(commands.length);
      expect(again.starts).toEqual({ ref: 1 });
      expect(sightingOf(again, 'a', 'ref').present).toBe(true);
    });

    test('a snapshot that is older than the one in place changes nothing', async () => {
      const [one, other] = [await harness.process(), await harness.process()];
      let state = initialState(LOG_FLEET);
      const states = [state];
      for (let n = 0; n < 4; n += 1) {
        for (const entry of (await one.append(share(n / 4), n)).entries) state = apply(state, entry).state;
        states.push(state);
      }
      const [, first, , third] = states;
      if (first === undefined || third === undefined) throw new Error('no states');
      await one.compact(third);
      await other.compact(first);
      await other.compact(third);
      const read = await other.readSince(0);
      expect(read.snapshot?.index).toBe(3);
      expect(read.entries.map(({ index }) => index)).toEqual([4]);
      expect(await other.readSince(3)).toMatchObject({ snapshot: null, length: 1 });
    });
  });
}
