/**
 * Logs: pino to stderr, stdout is for results. JSON lines where a machine reads, short lines on a terminal. While a live
 * display is on, log lines are printed above it instead of through it.
 */
import { type Logger, pino } from 'pino';
import { z } from 'zod';
import { subjectOf } from '../runtime/observer.ts';
import { fieldsText } from './progress/lines.ts';
import { type Paint, printable } from './text.ts';

export const logLevels = ['silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof logLevels)[number];

export interface CliLog {
  readonly logger: Logger;
  /** Where lines go from now on; null: stderr again. */
  redirect(sink: ((line: string) => void) | null): void;
}

export function openLog(options: { level: LogLevel; stderr: NodeJS.WriteStream; paint: Paint }): CliLog {
  let sink: ((line: string) => void) | null = null;
  const pretty = options.stderr.isTTY === true;
  const logger = pino(
    { level: options.level, base: null, timestamp: pino.stdTimeFunctions.isoTime, mixin: subjectOf },
    {
      write(json: string): void {
        const line = pretty ? logText(json, options.paint) : json.trimEnd();
        if (sink !== null) sink(line);
        else options.stderr.write(`${line}\n`);
      },
    },
  );
  return {
    logger,
    redirect(next) {
      sink = next;
    },
  };
}

const entrySchema = z.looseObject({ level: z.number(), time: z.string(), msg: z.string().optional() });

/** A pino line for eyes: `12:00:01 warn  message key=value`. */
export function logText(json: string, paint: Paint): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return printable(json.trimEnd());
  }
  const entry = entrySchema.safeParse(parsed);
  if (!entry.success) return printable(json.trimEnd());
  const { level, time, msg, ...rest } = entry.data;
  const label = pino.levels.labels[level] ?? String(level);
  const colour = level >= 50 ? 'red' : level >= 40 ? 'yellow' : 'dim';
  const fields = Object.entries(rest).map(([key, value]) => [key, valueText(value)] as const);
  const fieldsPart = fields.length === 0 ? '' : paint('dim', fieldsText(fields));
  return [paint('dim', time.slice(11, 19)), paint(colour, label.padEnd(5)), printable(msg ?? ''), fieldsPart]
    .filter((part) => part !== '')
    .join(' ');
}

function valueText(value: unknown): string {
  if (Array.isArray(value)) return value.map(valueText).join(',');
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}
