import { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { frameOf, SseStream } from '../../src/api/streams/sse.ts';
import { Tail, type TailEntry } from '../../src/api/streams/tail.ts';
import { Track } from '../../src/api/track.ts';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import { compareIds } from '../../src/store/event-log.ts';

const signal = new AbortController().signal;
const point = (atMs: number) => ({ atMs, state: 'precopy' as const, progress: null });
const at = (frame: string): number => JSON.parse(/^data: (.*)$/m.exec(frame)?.[1] ?? '{}').atMs;

/** Everything behind `position`, until it ends. */
async function courseOf(track: Track, position = 0): Promise<string[]> {
  const frames: string[] = [];
  for (;;) {
    const step = await track.next(position, signal);
    frames.push(...step.frames);
    position = step.position;
    if (step.ended) return frames;
  }
}

const progress = (second: number) => ({
  pass: 1 + Math.floor(second / 20),
  remainingBytes: 3_456_789_012 - second * 2_097_152,
  transferredBytes: second * 2_097_152,
  totalBytes: 4_294_967_296,
  rateBytesPerSec: 2_097_152 + (second % 7) * 1_024,
  dirtyRateBytesPerSec: 10_485_760.123 + second / 3,
  grantBytesPerSec: 2_097_152,
  share: 1,
  etaMs: 2_000_000 - second * 1_000,
  prediction: null,
  decision: 'the first pass at full speed: 10 MiB/s is written, and what is written again is known at its end',
});

describe('the course of a migration', () => {
  it('keeps a bounded number of points: all of it, its past more coarsely', async () => {
    const track = new Track();
    for (let second = 0; second < 10_000; second += 1) {
      track.add({ ...point(second), state: second % 2 === 0 ? 'precopy' : 'admitted' }, 100);
      expect(track.size).toBeLessThanOrEqual(100);
    }
    track.end();
    const times = (await courseOf(track)).map(at);
    expect(times.at(-1)).toBe(9_999);
    expect(times[0]).toBe(0);
    expect(times).toEqual([...times].sort((a, b) => a - b));
    // The last ones are all there.
    expect(times.slice(-20)).toEqual(Array.from({ length: 20 }, (_, index) => 9_980 + index));
  });

  it('of a long one the last quarter stays whole, and what is older lies further apart', async () => {
    const track = new Track();
    for (let second = 0; second < 8_000; second += 1) {
      track.add({ ...point(second), progress: progress(second) }, 800);
      expect(track.size).toBeLessThanOrEqual(800);
    }
    track.end();
    const times = (await courseOf(track)).map(at);
    const gaps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    expect(times[0]).toBe(0);
    expect(gaps.slice(-200)).toEqual(Array(200).fill(1));
    // Of ten times as many as may stay.
    expect(Math.max(...gaps)).toBeLessThanOrEqual(64);
    expect(Math.min(...gaps)).toBe(1);
    const thirds = [0, 1, 2].map((third) => gaps.slice((third * gaps.length) / 3, ((third + 1) * gaps.length) / 3));
    const means = thirds.map((all) => all.reduce((sum, gap) => sum + gap, 0) / all.length);
    expect(means).toEqual(means.toSorted((a, b) => b - a));
    expect(times.length).toBeGreaterThan(600);
  });

  it('is given whole, in order and from anywhere, and takes a fraction of what was sent', async () => {
    const track = new Track();
    const sent: string[] = [];
    for (let second = 0; second < 1_000; second += 1) {
      track.add({ ...point(second), progress: progress(second) }, 2_000);
      sent.push(frameOf({ event: 'progress', data: { ...point(second), progress: progress(second) } }));
    }
    track.end();
    expect(await courseOf(track)).toEqual(sent);
    for (const from of [0, 1, 24, 25, 26, 499, 950, 975, 999, 1_000]) {
      expect(await courseOf(track, from)).toEqual(sent.slice(from));
    }
    expect(track.bytes).toBeLessThan(sent.join('').length / 3);
  });

  it('a point that says nothing new is none', () => {
    const track = new Track();
    expect(track.add(point(1), 10)).toBe(true);
    expect(track.add(point(2), 10)).toBe(false);
    expect(track.size).toBe(1);
  });

  it('who follows is woken by the next point, and by the end', async () => {
    const track = new Track();
    const next = track.next(0, signal);
    track.add(point(1), 10);
    const { frames, position } = await next;
    expect(frames.map(at)).toEqual([1]);
    const last = track.next(position, signal);
    track.end();
    expect(await last).toEqual({ frames: [], position, ended: true });
  });
});

describe('a stream', () => {
  it('is dropped when not even a little of what it was sent leaves, and not while it does', async () => {
    let [takes, given] = [true, 0];
    const socket = new Duplex({
      read: () => undefined,
      write: (_chunk, _encoding, done) => {
        given += 1;
        if (takes) done();
      },
    }) as Socket;
    socket.setNoDelay = () => socket;
    const raw = new ServerResponse(new IncomingMessage(socket));
    raw.assignSocket(socket);
    const stream = new SseStream(raw, {}, { drainMs: 100, bufferBytes: 10_000 });
    for (let sent = 0; sent < 3; sent += 1) stream.write('x');
    const before = given;
    expect(before).toBeGreaterThan(0);
    await abortableSleep(250);
    expect(stream.signal.aborted).toBe(false);
    takes = false;
    stream.write('y');
    await stream.closed;
    expect(given).toBeGreaterThan(before);
    expect(stream.signal.aborted).toBe(true);
  });
});

describe('a tail', () => {
  const entry = (n: number): TailEntry => ({ id: `${n}-0`, frame: `${n}` });

  it('orders ids as Redis does, by number', () => {
    expect(['10-2', '9-11', '10-10', '0', '2-0'].sort(compareIds)).toEqual(['0', '2-0', '9-11', '10-2', '10-10']);
  });

  it('a source that fails is asked again, from where it was', async () => {
    const asked: string[] = [];
    const tail = new Tail(
      {
        async *follow(after) {
          asked.push(after);
          if (asked.length === 1) {
            yield entry(1);
            throw new Error('away');
          }
          yield entry(2);
        },
        page: async () => [],
      },
      '0',
    );
    const first = await tail.next('0', signal);
    expect(first).toEqual({ frames: ['1'], position: '1-0', ended: false });
    const second = await tail.next('1-0', signal);
    expect(second.frames).toEqual(['2']);
    expect(await tail.next('2-0', signal)).toMatchObject({ ended: true });
    expect(asked).toEqual(['0', '1-0']);
  });

  it('one whose operation is not known any more ends, and every failure is told', async () => {
    const told: unknown[] = [];
    const tail = new Tail(
      {
        // biome-ignore lint/correctness/useYield: it fails before it has anything.
        async *follow() {
          throw new HostevacError('unknownOperation', 'expired');
        },
        page: async () => [],
      },
      '0',
      (error) => told.push(error),
    );
    expect(await tail.next('0', signal)).toEqual({ frames: [], position: '0', ended: true });
    expect(told).toMatchObject([{ code: 'unknownOperation' }]);
  });

  it('what was thrown away in the store is passed over, not waited for', async () => {
    const tail = new Tail(
      {
        async *follow() {
          yield entry(100);
        },
        page: async () => [],
      },
      '99-0',
    );
    expect(await tail.next('5-0', signal)).toMatchObject({ frames: ['100'], position: '100-0' });
  });

  it('who goes is let go', async () => {
    const gone = new AbortController();
    const tail = new Tail(
      {
        async *follow(_after, stop) {
          await new Promise((resolve) => stop.addEventListener('abort', resolve));
        },
        page: async () => [],
      },
      '0',
    );
    const waiting = tail.next('0', gone.signal);
    gone.abort();
    expect(await waiting).toEqual({ frames: [], position: '0', ended: false });
    tail.close();
  });
});
