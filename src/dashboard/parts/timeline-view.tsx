/** The time axis of an operation: predicted beside real. Each row also says in words what it shows. */
import { hrefOf } from '../lib/route.ts';
import type { Expected, Span, Timeline } from '../lib/timeline.ts';
import { printable } from '../lib/words.ts';

const percent = (part: number): string => `${(part * 100).toFixed(3)}%`;
const box = ({ from, to }: Span): { left: string; width: string } => ({
  left: percent(from),
  width: percent(Math.max(0, to - from)),
});

export function TimelineView({ timeline }: { readonly timeline: Timeline }) {
  const { rows, ticks, now, end } = timeline;
  return (
    <div class="timeline">
      <div class="timeline-axis" aria-hidden="true">
        <span class="timeline-name" />
        <div class="timeline-track">
          {ticks.map((tick) => (
            <span key={tick.text} class="timeline-tick" style={{ left: percent(tick.at) }}>
              {tick.text}
            </span>
          ))}
        </div>
      </div>
      <ol class="timeline-rows">
        {rows.map((row) => (
          <li key={row.vm} class="timeline-row">
            <span class="timeline-name">{printable(row.vm)}</span>
            <span class="unseen">: {printable(row.text)}</span>
            <div class="timeline-track">
              {ticks.map((tick) => (
                <i key={tick.text} class="timeline-grid" style={{ left: percent(tick.at) }} aria-hidden="true" />
              ))}
              {row.waits !== null && (
                <i class="timeline-waits" style={box(row.waits)} title="waits" aria-hidden="true" />
              )}
              {row.expected.map((expected) => (
                <ExpectedEnd key={`${expected.when} ${expected.at}`} expected={expected} />
              ))}
              {row.bars.map((bar) => (
                <a
                  key={bar.moveId}
                  class={`timeline-bar tone-${bar.tone} ${bar.running ? 'running' : ''}`}
                  style={box(bar)}
                  href={hrefOf({ page: 'migration', id: bar.moveId })}
                  title={bar.text}
                >
                  <span class="unseen">{printable(`${row.vm}, ${bar.text}`)}</span>
                </a>
              ))}
              {now !== null && <i class="timeline-now" style={{ left: percent(now) }} aria-hidden="true" />}
            </div>
          </li>
        ))}
        {end !== null && (
          <li class="timeline-row timeline-end">
            <span class="timeline-name">all</span>
            <span class="unseen">: {end.text}</span>
            <div class="timeline-track">
              <ExpectedEnd expected={end} />
              {now !== null && <i class="timeline-now" style={{ left: percent(now) }} aria-hidden="true" />}
            </div>
          </li>
        )}
      </ol>
      <ul class="legend" aria-hidden="true">
        <li>
          <i class="key key-bar" /> real
        </li>
        <li>
          <i class="key key-before" /> end predicted before the start
        </li>
        <li>
          <i class="key key-now" /> end predicted now
        </li>
        {now !== null && (
          <li>
            <i class="key key-line" /> now
          </li>
        )}
      </ul>
    </div>
  );
}

function ExpectedEnd({ expected }: { readonly expected: Expected }) {
  return (
    <>
      <i class={`timeline-expected ${expected.when}`} style={box(expected)} title={expected.text} aria-hidden="true" />
      <i class={`timeline-median ${expected.when}`} style={{ left: percent(expected.at) }} aria-hidden="true" />
    </>
  );
}
