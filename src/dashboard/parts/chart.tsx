/** A chart over the seconds of a migration, with a mark at each of its controller's decisions. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { formatDuration } from '../../domain/format.ts';
import type { Decision } from '../lib/samples.ts';
import { onColours } from './theme.tsx';

export interface Line {
  readonly label: string;
  /** A token of the design: `line-1`. */
  readonly colour: string;
  readonly values: readonly number[];
  readonly dashed?: boolean;
  /** It holds until it is changed. */
  readonly stepped?: boolean;
}

export interface ChartProps {
  readonly title: string;
  /** The chart in a sentence. */
  readonly text: string;
  readonly seconds: readonly number[];
  readonly lines: readonly Line[];
  readonly format: (value: number) => string;
  readonly most?: number;
  readonly decisions: readonly Decision[];
  readonly selected: Decision | null;
  /** The pointer is over this moment; null: it has left. */
  readonly onPoint: (index: number | null) => void;
}

const HEIGHT = 180;

export function Chart(props: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  // Read while painting: a plot is made once and fed anew.
  const latest = useRef(props);
  latest.current = props;

  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const make = (): void => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsFor(element, latest), dataOf(latest.current), element);
    };
    make();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    const forget = onColours(make);
    return () => {
      resized.disconnect();
      forget();
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  useEffect(() => plot.current?.setData(dataOf(props)), [props.seconds, props.lines]);
  useEffect(() => plot.current?.redraw(false), [props.selected, props.decisions]);

  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{props.title}</span>
        {props.lines.map((line) => (
          <span key={line.label} class="chart-key">
            <i class={`key ${line.colour} ${line.dashed === true ? 'dashed' : ''}`} aria-hidden="true" />
            {line.label} <b>{line.values.length === 0 ? '–' : props.format(line.values.at(-1) ?? 0)}</b>
          </span>
        ))}
      </figcaption>
      <div ref={place} class="chart-plot" role="img" aria-label={props.text} />
    </figure>
  );
}

function dataOf({ seconds, lines }: ChartProps): uPlot.AlignedData {
  return [seconds as number[], ...lines.map(({ values }) => values as number[])];
}

/** A token as a colour: canvases know nothing of custom properties. */
function colour(element: HTMLElement, token: string): string {
  const probe = document.createElement('i');
  probe.style.color = `var(--${token})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function optionsFor(element: HTMLElement, latest: { readonly current: ChartProps }): uPlot.Options {
  const { lines, format, most } = latest.current;
  const [ink, grid, mark, strong] = ['ink-2', 'line', 'ink-3', 'accent'].map((token) => colour(element, token));
  const stepped = uPlot.paths.stepped?.({ align: 1 });
  const axis = {
    stroke: ink ?? '',
    grid: { stroke: grid ?? '', width: 1 },
    ticks: { show: false },
    font: '12px system-ui, sans-serif',
  };
  return {
    width: Math.max(200, element.clientWidth),
    height: HEIGHT,
    legend: { show: false },
    padding: [8, 8, 0, 0],
    cursor: {
      sync: { key: 'migration' },
      y: false,
      drag: { x: false, y: false, setScale: false },
      points: { size: 6 },
    },
    scales: {
      x: { time: false, range: (_plot, _low, high) => [0, Math.max(1, high)] },
      y: { range: (_plot, _low, high) => [0, most ?? Math.max(1, high * 1.08)] },
    },
    axes: [
      {
        ...axis,
        values: (_plot, values) => values.map((value) => (value === 0 ? '0' : formatDuration(value * 1_000))),
        size: 28,
        space: 70,
        incrs: SECONDS,
      },
      {
        ...axis,
        values: (_plot, values) => values.map(format),
        size: 84,
        space: 36,
        ...(most === 1 ? {} : { incrs: STEPS }),
      },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(element, line.colour),
        width: 2,
        points: { show: false },
        ...(line.dashed === true ? { dash: [5, 4] } : {}),
        ...(line.stepped === true && stepped !== undefined ? { paths: stepped } : {}),
      })),
    ],
    hooks: {
      drawClear: [
        (plot) => {
          const { decisions, selected } = latest.current;
          const { ctx, bbox } = plot;
          ctx.save();
          for (const decision of decisions) {
            const x = plot.data[0][decision.index];
            if (x === undefined || x === null) continue;
            const at = Math.round(plot.valToPos(x, 'x', true)) + 0.5;
            const chosen = decision === selected || decision.index === selected?.index;
            ctx.strokeStyle = (chosen ? strong : mark) ?? '';
            ctx.lineWidth = (chosen ? 2 : 1) * devicePixelRatio;
            ctx.setLineDash(chosen ? [] : [2 * devicePixelRatio, 3 * devicePixelRatio]);
            ctx.beginPath();
            ctx.moveTo(at, bbox.top);
            ctx.lineTo(at, bbox.top + bbox.height);
            ctx.stroke();
          }
          ctx.restore();
        },
      ],
      setCursor: [
        (plot) => {
          // The others follow by themselves; the one under the pointer speaks.
          if (plot.cursor.event === undefined || plot.cursor.event === null) return;
          latest.current.onPoint(plot.cursor.idx ?? null);
        },
      ],
    },
  };
}

/** Round in binary units. */
const STEPS: number[] = [0, 10, 20, 30, 40].flatMap((power) =>
  [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map((factor) => factor * 2 ** power),
);

const SECONDS: number[] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400];
