/** The framing: the same lines whatever the chunks, in bounded memory and linear time. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LineFramer } from '../../../../src/hypervisors/qemu/qmp/lines.ts';

const MIB = 1024 * 1024;

function linesOf(framer: LineFramer, chunks: readonly Buffer[]): string[] {
  return chunks.flatMap((chunk) => framer.push(chunk));
}

/** The bytes cut at the given places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end));
}

const lineText = fc.string({ unit: 'binary', maxLength: 40 }).map((text) => text.replace(/[\r\n]/g, ''));

describe('lines out of chunks', () => {
  test('any chunking gives the same lines, also through the middle of a character', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(lineText, fc.constantFrom('\n', '\r\n'))),
        lineText,
        fc.array(fc.nat(), { maxLength: 30 }),
        (lines, rest, places) => {
          const bytes = Buffer.from(lines.map(([text, end]) => text + end).join('') + rest);
          const framer = new LineFramer(1000);
          expect(linesOf(framer, cut(bytes, places))).toEqual(lines.map(([text]) => text));
          expect(framer.unfinished).toBe(rest);
          expect(framer.overflowed).toBe(false);
        },
      ),
    );
  });

  test('any chunking refuses the same line: the first that is longer than the limit', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 12 }), { minLength: 1 }),
        fc.array(fc.nat(), { maxLength: 30 }),
        (lengths, places) => {
          const framer = new LineFramer(10);
          const bytes = Buffer.from(lengths.map((length) => `${'x'.repeat(length)}\n`).join(''));
          const tooLong = lengths.findIndex((length) => length > 10);
          const good = tooLong < 0 ? lengths : lengths.slice(0, tooLong);
          expect(linesOf(framer, cut(bytes, places)).map((line) => line.length)).toEqual(good);
          expect(framer.overflowed).toBe(tooLong >= 0);
        },
      ),
    );
  });

  test('one byte at a time, a line of 2 MiB costs at most two buffers of it and linear time', () => {
    const framer = new LineFramer(2 * MIB);
    const before = process.memoryUsage().arrayBuffers;
    const start = performance.now();
    const byte = Buffer.from('x');
    let largest = 0;
    let lines = 0;
    for (let index = 0; index < 2 * MIB; index += 1) {
      lines += framer.push(byte).length;
      if (index % 65536 === 0) largest = Math.max(largest, process.memoryUsage().arrayBuffers - before);
    }
    expect(lines).toBe(0);
    expect(framer.push(Buffer.from('\n'))).toEqual(['x'.repeat(2 * MIB)]);
    expect(largest).toBeLessThan(16 * MIB);
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  test('100 MB without an end are refused at the limit; nothing after it is kept', () => {
    const framer = new LineFramer(2 * MIB);
    const chunk = Buffer.alloc(65536, 'x');
    let pushed = 0;
    while (!framer.overflowed) {
      framer.push(chunk);
      pushed += chunk.length;
    }
    expect(pushed).toBe(2 * MIB + chunk.length);
    const before = process.memoryUsage().arrayBuffers;
    for (; pushed < 100e6; pushed += chunk.length) expect(framer.push(chunk)).toEqual([]);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(MIB);
    expect(framer.unfinished).toMatch(/^x{256}$/);
  });
});
