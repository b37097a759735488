/** What one aggression would come to, beside what the policy requires. */
import type { Interval } from '../../domain/prediction.ts';
import { REQUIREMENT_WORDS, whatIfFigures } from '../../domain/what-if-words.ts';
import { requirementsOf, scaleOf, type WhatIfRow } from '../lib/what-if.ts';
import { printable } from '../lib/words.ts';
import type { WhatIf } from '../net/types.ts';
import { IntervalBar } from './small.tsx';

export function Costs({
  row,
  free,
  answer,
}: {
  readonly row: WhatIfRow;
  readonly free: WhatIfRow | null;
  readonly answer: WhatIf;
}) {
  const figures = whatIfFigures(row, answer.policy);
  const unthrottled = free === null ? null : whatIfFigures(free, answer.policy);
  const ends = figures.downtime !== '-';
  const cost = (
    key: 'totalMs' | 'downtimeMs' | 'harmCpuMs',
  ): { readonly interval: Interval; readonly most: number } => ({
    interval: row.prediction[key],
    most: scaleOf(answer, key),
  });
  return (
    <div class="costs">
      <Cost
        id="total"
        title="Total time"
        text={figures.total}
        free={unthrottled?.total ?? null}
        bar={ends ? cost('totalMs') : null}
      />
      <Cost
        id="downtime"
        title="Downtime"
        text={figures.downtime}
        free={unthrottled?.downtime ?? null}
        bar={ends ? cost('downtimeMs') : null}
      />
      <Cost
        id="cpu"
        title="CPU it gets"
        text={`${figures.meanShare} on average, least share ${figures.minShare}`}
        free={unthrottled === null ? null : unthrottled.meanShare}
        bar={{
          interval: {
            value: row.prediction.meanShare,
            low: Math.min(row.prediction.minShare, row.prediction.meanShare),
            high: 1,
          },
          most: 1,
        }}
      />
      <Cost
        id="harm"
        title="Harm (CPU time taken)"
        text={figures.harm}
        free={unthrottled?.harm ?? null}
        bar={ends ? cost('harmCpuMs') : null}
      />
    </div>
  );
}

function Cost({
  id,
  title,
  text,
  free,
  bar,
}: {
  readonly id: string;
  readonly title: string;
  readonly text: string;
  readonly free: string | null;
  readonly bar: { readonly interval: Interval; readonly most: number } | null;
}) {
  const [, median = text, rest = ''] = /^(.*?)( \(.*\)|, .*| on average.*)$/.exec(text) ?? [];
  return (
    <div class="cost">
      <h3 id={`cost-${id}`}>{title}</h3>
      <p class="cost-figure" data-cost={id}>
        {median}
        <span>{rest}</span>
      </p>
      {bar === null ? <div class="interval none-known" aria-hidden="true" /> : <IntervalBar {...bar} />}
      <p class="hint">Never throttled: {free === '-' ? 'no end' : (free ?? 'as this')}</p>
    </div>
  );
}

export function Requirements({ row, answer }: { readonly row: WhatIfRow; readonly answer: WhatIf }) {
  return (
    <ul class="requirements">
      {requirementsOf(row, answer.policy).map(({ requirement, limit, predicted, broken }) => (
        <li key={requirement} class={broken === null ? 'kept' : 'broken'} data-requirement={requirement}>
          <span class="requirement-mark" aria-hidden="true">
            {broken === null ? '✓' : '✕'}
          </span>
          <span class="requirement-name">
            {REQUIREMENT_WORDS[requirement]} <b>{limit}</b>
          </span>
          <span class="requirement-says">
            {broken === null ? `kept: ${predicted}` : `would break: ${printable(broken)}`}
          </span>
        </li>
      ))}
    </ul>
  );
}
