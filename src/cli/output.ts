/**
 * Where results go. Stdout is for results only; when nobody reads it any more (`| head`), that is no crash and stops no
 * operation: what follows is dropped.
 */
import { Interrupted } from './signals.ts';
import { type Paint, paintFor } from './text.ts';

export interface Output {
  readonly json: boolean;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** For text on stdout. */
  readonly paint: Paint;
  /** For text on stderr. */
  readonly stderrPaint: Paint;
  /** Of stdout; what is not a terminal is not cut to a width. */
  columns(): number;
  /** Lines of a result in text; nothing with `-o json`. */
  lines(lines: readonly string[]): void;
  /** The result as one JSON document on one line; nothing in text. */
  result(value: unknown): void;
  /** A remark for people, on stderr; with `-o json` too. */
  remark(line: string): void;
  /** Where remarks go from now on (above a live display); null: stderr again. */
  redirectRemarks(sink: ((line: string) => void) | null): void;
  /** Aborts with an `Interrupted` when the reader of stdout has gone. */
  readonly readerGone: AbortSignal;
}

/** Wide enough that no table is ever cut in a pipe or a file. */
const UNLIMITED_COLUMNS = 1_000;

export function openOutput(options: {
  json: boolean;
  env: NodeJS.ProcessEnv;
  stdout: NodeJS.WriteStream;
  stderr: NodeJS.WriteStream;
}): Output {
  const { json, env, stdout, stderr } = options;
  const gone = new AbortController();
  let remarkSink: ((line: string) => void) | null = null;
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    gone.abort(new Interrupted('SIGPIPE'));
  });
  // There is nobody left to tell.
  stderr.on('error', () => undefined);
  const write = (stream: NodeJS.WriteStream, line: string): void => {
    if (stream === stdout && gone.signal.aborted) return;
    stream.write(`${line}\n`);
  };
  return {
    json,
    stdout,
    stderr,
    paint: paintFor(env, stdout.isTTY === true),
    stderrPaint: paintFor(env, stderr.isTTY === true),
    columns: () => (stdout.isTTY === true ? stdout.columns || 80 : UNLIMITED_COLUMNS),
    lines(lines) {
      if (!json) for (const line of lines) write(stdout, line);
    },
    result(value) {
      if (json) write(stdout, JSON.stringify(value));
    },
    remark(line) {
      if (remarkSink !== null) remarkSink(line);
      else write(stderr, line);
    },
    redirectRemarks(sink) {
      remarkSink = sink;
    },
    readerGone: gone.signal,
  };
}
