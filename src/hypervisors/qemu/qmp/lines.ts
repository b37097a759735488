/**
 * Lines out of a stream of bytes, whatever the chunks: bounded in memory (at most the limit, kept in one buffer) and
 * linear in time (every byte is looked at once). What a line means is messages.ts's business.
 */

const LF = 0x0a;
const CR = 0x0d;
/** Of a line that does not end: enough to recognise what it is. */
const HEAD_BYTES = 256;

export class LineFramer {
  readonly #limitBytes: number;
  /** Grows by doubling: pieces kept apart would cost far more than their bytes when they come one byte at a time. */
  #buffer = Buffer.alloc(0);
  #length = 0;
  #overflowed = false;

  /** `limitBytes`: the longest line, without its LF. */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** A line was longer than the limit: there will be no more lines. */
  get overflowed(): boolean {
    return this.#overflowed;
  }

  /** Bytes that came since the last line's end. */
  get unfinishedBytes(): number {
    return this.#length;
  }

  /** The beginning of the line that has not ended yet. */
  get unfinished(): string {
    return this.#buffer.toString('utf8', 0, Math.min(this.#length, HEAD_BYTES));
  }

  /** The lines that this chunk completes, without LF or CRLF. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    while (!this.#overflowed) {
      // LF is never part of a longer UTF-8 sequence, so bytes may be searched before they are decoded.
      const found = chunk.indexOf(LF, start);
      const piece = chunk.subarray(start, found < 0 ? chunk.length : found);
      if (this.#length + piece.length > this.#limitBytes) this.#overflow(piece);
      else if (found < 0) {
        this.#keep(piece);
        break;
      } else {
        lines.push(this.#complete(piece));
        start = found + 1;
      }
    }
    return lines;
  }

  #complete(piece: Buffer): string {
    if (this.#length === 0) return decode(piece);
    this.#keep(piece);
    const line = decode(this.#buffer.subarray(0, this.#length));
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    return line;
  }

  #keep(piece: Buffer): void {
    const needed = this.#length + piece.length;
    if (needed > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.min(this.#limitBytes, Math.max(needed, this.#buffer.length * 2)));
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    piece.copy(this.#buffer, this.#length);
    this.#length = needed;
  }

  #overflow(piece: Buffer): void {
    this.#overflowed = true;
    const seen = this.#length + piece.length;
    this.#buffer = Buffer.concat([this.#buffer.subarray(0, this.#length), piece], HEAD_BYTES);
    this.#length = seen;
  }
}

function decode(line: Buffer): string {
  const end = line.at(-1) === CR ? line.length - 1 : line.length;
  return line.toString('utf8', 0, end);
}
