/**
 * One profile over time, ours beside QEMU's auto-converge, as SVG: what remains to be sent, the share of its CPU that the
 * guest gets, the rate. Text of its own rather than a library's: two lines in three panels. Pure.
 */
import type { Result } from './results.ts';

const MIB = 2 ** 20;
const WIDTH = 860;
const LEFT = 64;
const RIGHT = 24;
const TOP = 112;
const PANEL = 128;
const GAP = 46;
const HEIGHT = TOP + 3 * PANEL + 2 * GAP + 48;
/** QEMU sends in bursts of 100 ms. */
const RATE_OVER_MS = 1_000;

export interface Line {
  readonly label: string;
  readonly kind: 'ours' | 'peer';
  readonly result: Result;
}

interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly most: number;
  readonly values: (trace: Trace) => (readonly [number, number])[];
}

type Trace = NonNullable<Result['trace']>;

/** The run whose harm lies in the middle of those that have a trace; undefined: there is none. */
export function typical(results: readonly Result[]): Result | undefined {
  const sorted = results
    .filter(({ trace }) => trace !== null && trace.length > 1)
    .sort((one, other) => one.harmCpuMs - other.harmCpuMs);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}

/** `what`: of the guest, for the title. */
export function chart(lines: readonly Line[], what: string): string {
  const traces = lines.flatMap(({ result }) => result.trace ?? []);
  const seconds = niceAbove(Math.max(1, ...lines.map(({ result }) => result.wallMs / 1_000)));
  const panels: Panel[] = [
    {
      title: 'Still to be sent',
      unit: 'MiB',
      // The first pass begins with all memory; zero pages go in no time.
      most: niceAbove(Math.max(1, ...traces.map(([, remaining]) => remaining / MIB))),
      values: (trace) => trace.map(([atMs, remaining]) => [atMs, remaining / MIB]),
    },
    {
      title: 'CPU that the guest gets, of what it wants',
      unit: '%',
      most: 100,
      values: (trace) => trace.map(([atMs, , , share]) => [atMs, Math.min(1, share) * 100]),
    },
    {
      title: 'Sent',
      unit: 'MiB/s',
      most: niceAbove(
        Math.max(1, ...lines.flatMap(({ result }) => ratesOf(result.trace ?? []).map(([, rate]) => rate))),
      ),
      values: ratesOf,
    },
  ];
  const x = (ms: number): number => LEFT + (ms / 1_000 / seconds) * (WIDTH - LEFT - RIGHT);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-labelledby="title">`,
    `<title id="title">${escaped(`A migration of a ${what}: ${lines.map(inWords).join('; ')}`)}</title>`,
    STYLE,
    `<text class="heading" x="${LEFT}" y="26">${escaped(`Migrating a ${what}`)}</text>`,
    ...legend(lines),
    ...panels.map((panel, index) => panelText(panel, lines, { y: TOP + index * (PANEL + GAP), x, seconds })),
    `<text class="axis" x="${WIDTH - RIGHT}" y="${HEIGHT - 10}" text-anchor="end">seconds since migrate</text>`,
    '</svg>',
    '',
  ].join('\n');
}

/** Readable on light and on dark: nothing but lines and text, in colours of either. */
const STYLE = `<style>
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #3d444d }
  .heading { font-size: 17px; font-weight: 600; fill: #1f2328 }
  .panel { font-weight: 600; fill: #1f2328 }
  .axis { font-size: 11px; fill: #59636e; font-variant-numeric: tabular-nums }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
  .ours { stroke: #0b7d6e } .ours-dot { fill: #0b7d6e }
  .peer { stroke: #bc4c00; stroke-dasharray: 6 3 } .peer-dot { fill: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #c3cbd5 } .heading, .panel { fill: #f0f6fc } .axis { fill: #9198a1 } .grid { stroke: #3d444d }
    .ours { stroke: #3fd0b8 } .ours-dot { fill: #3fd0b8 } .peer { stroke: #f0a35e } .peer-dot { fill: #f0a35e }
  }
</style>`;

function legend(lines: readonly Line[]): string[] {
  return lines.map((line, index) => {
    const y = 48 + index * 20;
    const swatch = `<line class="line ${line.kind}" x1="${LEFT}" y1="${y - 4}" x2="${LEFT + 28}" y2="${y - 4}"/>`;
    return `${swatch}<text x="${LEFT + 38}" y="${y}">${escaped(inWords(line))}</text>`;
  });
}

function inWords({ label, result }: Line): string {
  const time = result.done ? `${(result.wallMs / 1_000).toFixed(1)} s` : 'not done';
  return `${label}: ${time}, takes ${(Math.max(0, result.harmCpuMs) / 1_000).toFixed(1)} s of CPU time from the guest`;
}

interface Place {
  readonly y: number;
  readonly x: (ms: number) => number;
  readonly seconds: number;
}

function panelText(panel: Panel, lines: readonly Line[], { y, x, seconds }: Place): string {
  const at = (value: number): number => y + PANEL - (Math.min(value, panel.most) / panel.most) * PANEL;
  const right = WIDTH - RIGHT;
  const marks = [0, 0.5, 1].map((part) => {
    const value = panel.most * part;
    const label = `<text class="axis" x="${LEFT - 8}" y="${round(at(value) + 4)}" text-anchor="end">${format(value)}</text>`;
    return `<line class="grid" x1="${LEFT}" y1="${round(at(value))}" x2="${right}" y2="${round(at(value))}"/>${label}`;
  });
  const step = niceAbove(seconds / 6);
  const times = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, index) => {
    const second = index * step;
    return `<text class="axis" x="${round(x(second * 1_000))}" y="${y + PANEL + 15}" text-anchor="middle">${format(second)}</text>`;
  });
  const drawn = [...lines].reverse().map(({ kind, result }) => {
    const points = panel.values(result.trace ?? []).map(([ms, value]) => `${round(x(ms))},${round(at(value))}`);
    const [lastX, lastY] = points.at(-1)?.split(',') ?? [];
    const dot = lastX === undefined ? '' : `<circle class="${kind}-dot" cx="${lastX}" cy="${lastY}" r="3.5"/>`;
    return `<polyline class="line ${kind}" points="${points.join(' ')}"/>${dot}`;
  });
  const title = `<text class="panel" x="${LEFT}" y="${y - 9}">${escaped(`${panel.title}, ${panel.unit}`)}</text>`;
  return [title, ...marks, ...times, ...drawn].join('\n');
}

/** MiB/s, each over the last second. */
function ratesOf(trace: Trace): (readonly [number, number])[] {
  return trace.flatMap(([atMs, , transferred], index) => {
    const before = trace.slice(0, index).findLast(([then]) => atMs - then >= RATE_OVER_MS) ?? trace[0];
    if (before === undefined || before[0] === atMs) return [];
    return [[atMs, ((transferred - before[2]) / MIB / (atMs - before[0])) * 1_000] as const];
  });
}

/** The least of 1, 2, 2.5, 5 and their tens that is not below. */
function niceAbove(value: number): number {
  const ten = 10 ** Math.floor(Math.log10(value));
  return ten * ([1, 1.5, 2, 2.5, 3, 4, 5, 6, 8].find((nice) => nice * ten >= value) ?? 10);
}

function format(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
}
