/** What would moving this VM cost now? Measures, then shows for every aggression what it comes to and what it would break. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { formatDuration, formatRate, formatSize, intervalText } from '../../domain/format.ts';
import type { Interval } from '../../domain/prediction.ts';
import { DEADLINE_WORDS, grouped, REQUIREMENT_WORDS, whatIfFigures } from '../../domain/what-if-words.ts';
import { NO_DRAFT, type PolicyDraft, policyFields } from '../lib/draft.ts';
import { POLICY_NAMES } from '../lib/policies.ts';
import { hrefOf } from '../lib/route.ts';
import { requirementsOf, scaleOf, steps, type WhatIfRow } from '../lib/what-if.ts';
import { clockText, counted, printable } from '../lib/words.ts';
import { useLive, useServer } from '../net/hooks.ts';
import { NotReached } from '../net/problem.ts';
import type { Vm, WhatIf } from '../net/types.ts';
import { useAnnounce } from '../parts/announce.tsx';
import { Badge, Empty, Facts, IntervalBar, Loading, Notes, PageHead, Problem } from '../parts/small.tsx';
import { Table } from '../parts/table.tsx';

/** The looks take 3 s of fleet time, and a slow fleet's seconds are long. */
const LIMIT_MS = 60_000;

export function WhatIfPage({ vm }: { readonly vm: string }) {
  const server = useServer();
  const announce = useAnnounce();
  const [policy, setPolicy] = useState('');
  const [answer, setAnswer] = useState<{ readonly value: WhatIf; readonly atMs: number } | null>(null);
  const [problem, setProblem] = useState<Error | null>(null);
  const [measuring, setMeasuring] = useState(false);
  const where = useLive<Vm>(`/v1/vms/${encodeURIComponent(vm)}`, { concerns: (news) => news.kind === 'hosts' });
  const asked = useRef<AbortController | null>(null);
  const measure = async (): Promise<void> => {
    asked.current?.abort();
    const stop = new AbortController();
    asked.current = stop;
    setMeasuring(true);
    setProblem(null);
    const draft: PolicyDraft = { ...NO_DRAFT, policy };
    try {
      const value = await server.request<WhatIf>(
        'POST',
        `/v1/vms/${encodeURIComponent(vm)}/what-if`,
        policyFields(draft),
        {
          signal: stop.signal,
          limitMs: LIMIT_MS,
        },
      );
      setAnswer({ value, atMs: Date.now() });
      announce(`${vm} is measured.`);
    } catch (error) {
      if (stop.signal.aborted) return;
      setProblem(
        error instanceof NotReached
          ? new Error(error.message)
          : error instanceof Error
            ? error
            : new Error(String(error)),
      );
    }
    setMeasuring(false);
  };
  useEffect(() => {
    void measure();
    return () => asked.current?.abort();
  }, [vm, policy]);
  return (
    <>
      <PageHead
        title={`What if ${printable(vm)} moved?`}
        above={
          <>
            <a href="#/">Fleet</a>
            {where.data !== null && (
              <>
                {' / '}
                <a href={hrefOf({ page: 'host', host: where.data.host })}>{printable(where.data.host)}</a>
              </>
            )}
          </>
        }
        actions={
          <>
            <label class="field inline">
              <span>Policy</span>
              <select value={policy} onChange={(event) => setPolicy(event.currentTarget.value)}>
                <option value="">maintenance (as usual)</option>
                {Object.entries(POLICY_NAMES).map(([name, { what }]) => (
                  <option key={name} value={name}>
                    {name}: {what}
                  </option>
                ))}
              </select>
            </label>
            <button type="button" class="button primary" disabled={measuring} onClick={() => void measure()}>
              {measuring ? 'Measuring…' : 'Measure again'}
            </button>
          </>
        }
      >
        <p class="lead">
          {answer === null
            ? 'Its worker looks at it for three seconds, without slowing it.'
            : `Measured at ${clockText(answer.atMs)}.`}
        </p>
      </PageHead>
      <Problem problem={problem} />
      {answer === null ? (
        problem === null && <Loading what="a measurement" />
      ) : (
        <Answer answer={answer.value} key={answer.atMs} />
      )}
    </>
  );
}

function Answer({ answer }: { readonly answer: WhatIf }) {
  const { guest, model, measured } = answer;
  const throttled = steps(answer.rows);
  const free = answer.rows.find(({ aggression }) => aggression === null) ?? null;
  const start = throttled.findIndex(({ chosen }) => chosen);
  const [place, setPlace] = useState(Math.max(0, start));
  const row = throttled[place] ?? null;
  return (
    <>
      {row === null ? (
        <Empty title={notMoved(answer)} />
      ) : (
        <>
          <div class="beside">
            <section class="card" aria-labelledby="cost-title">
              <h2 id="cost-title">What it would cost</h2>
              <AggressionSlider rows={throttled} place={place} onPlace={setPlace} answer={answer} />
              <Costs row={row} free={free} answer={answer} />
            </section>
            <section class="card" aria-labelledby="requirements-title">
              <h2 id="requirements-title">What the policy requires</h2>
              <Requirements row={row} answer={answer} />
              <Notes
                title="Gives way"
                lines={answer.relaxed.map(({ requirement, why }) => `${REQUIREMENT_WORDS[requirement]}: ${why}`)}
              />
              <Notes
                title="Gives up"
                tone="bad"
                lines={
                  answer.givesUp === null ? [] : [`${answer.givesUp}; then ${DEADLINE_WORDS[answer.policy.atDeadline]}`]
                }
              />
            </section>
          </div>
          <section aria-labelledby="all-title">
            <h2 id="all-title">Every aggression</h2>
            <Rows
              answer={answer}
              selected={row}
              onSelect={(chosen) => setPlace(Math.max(0, throttled.indexOf(chosen)))}
            />
          </section>
        </>
      )}
      <section class="card" aria-labelledby="guest-title">
        <h2 id="guest-title">What is known of it</h2>
        <Facts
          facts={[
            { term: 'Runs on', value: printable(answer.host) },
            { term: 'Memory', value: `${formatSize(guest.memoryBytes)}, ${formatSize(guest.touchedBytes)} to be sent` },
            { term: 'Uses', value: `${guest.demandCores.toFixed(guest.demandCores < 9.95 ? 1 : 0)} cores` },
            model === null
              ? null
              : { term: 'Writes', value: estimateText(model.rateBytesPerSec, formatRate) ?? 'nobody knows how much' },
            model === null
              ? null
              : {
                  term: 'Over',
                  value: estimateText(model.workingSetBytes, formatSize) ?? 'nobody knows how much memory',
                },
            model === null
              ? null
              : {
                  term: 'Known from',
                  value: `${counted(measured.looks.length, 'look')}, ${formatDuration(measured.tookMs)} in all${measured.earlierMigrations > 0 ? `, and ${counted(measured.earlierMigrations, 'earlier migration')}` : ''}`,
                },
            {
              term: 'Sent with',
              value: `${formatRate(answer.bandwidthBytesPerSec)} (${printable(answer.path.narrowest)}${answer.path.waits ? ', it would wait for its turn' : ''})`,
            },
            {
              term: 'To',
              value:
                answer.destination === null
                  ? `no host takes it now: ${printable(answer.destinationWhy)}`
                  : `${printable(answer.destination)} (${printable(answer.destinationWhy)})`,
            },
          ]}
        />
      </section>
    </>
  );
}

function AggressionSlider({
  rows,
  place,
  onPlace,
  answer,
}: {
  readonly rows: readonly WhatIfRow[];
  readonly place: number;
  readonly onPlace: (place: number) => void;
  readonly answer: WhatIf;
}) {
  const row = rows[place];
  if (row === undefined) return null;
  const figures = whatIfFigures(row, answer.policy);
  const spoken = `${row.aggression}: total ${figures.total}, downtime ${figures.downtime}, CPU ${figures.meanShare}, harm ${figures.harm}${row.breaks.length === 0 ? '' : `; would break ${row.breaks.map(({ requirement }) => REQUIREMENT_WORDS[requirement]).join(', ')}`}`;
  return (
    <div class="slider">
      <div class="slider-head">
        <label for="what-if-aggression">
          Aggression <output class="figure">{row.aggression}</output>
        </label>
        {row.chosen && <Badge tone="good">what the policy would do</Badge>}
      </div>
      <input
        id="what-if-aggression"
        type="range"
        min={0}
        max={rows.length - 1}
        step={1}
        value={place}
        aria-valuetext={spoken}
        onInput={(event) => onPlace(Number(event.currentTarget.value))}
      />
      <div class="range-ends" aria-hidden="true">
        <span>0 · gentle</span>
        <span>quick · 1</span>
      </div>
      <p class="hint slider-why">{printable(row.why)}</p>
    </div>
  );
}

function Costs({
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
        bar={{ interval: { value: row.prediction.meanShare, low: Math.min(row.prediction.minShare, row.prediction.meanShare), high: 1 }, most: 1 }}
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

function Requirements({ row, answer }: { readonly row: WhatIfRow; readonly answer: WhatIf }) {
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

function Rows({
  answer,
  selected,
  onSelect,
}: {
  readonly answer: WhatIf;
  readonly selected: WhatIfRow;
  readonly onSelect: (row: WhatIfRow) => void;
}) {
  const shown = grouped(answer.rows).map((group) => ({ ...group, figures: whatIfFigures(group.row, answer.policy) }));
  return (
    <Table
      caption="What each aggression would cost"
      rows={shown}
      keyOf={({ from }) => String(from)}
      selected={({ from, to }) => holds(selected.aggression, from, to)}
      columns={[
        {
          key: 'aggression',
          title: 'Aggression',
          heads: true,
          cell: ({ from, to, chosen, row }) =>
            from === null ? (
              'never throttled'
            ) : (
              <>
                <button
                  type="button"
                  class="link-button"
                  aria-pressed={holds(selected.aggression, from, to)}
                  onClick={() => onSelect(row)}
                >
                  {from === to ? from : `${from}..${to}`}
                </button>
                {chosen && <span class="sub-inline"> policy</span>}
              </>
            ),
        },
        { key: 'total', title: 'Total', cell: ({ figures }) => figures.total },
        { key: 'downtime', title: 'Downtime', cell: ({ figures }) => figures.downtime },
        { key: 'mean', title: 'Mean CPU', align: 'right', cell: ({ figures }) => figures.meanShare },
        { key: 'least', title: 'Least', align: 'right', cell: ({ figures }) => figures.minShare },
        { key: 'harm', title: 'Harm (CPU time)', cell: ({ figures }) => figures.harm },
        { key: 'keeps', title: 'Keeps', class: 'prose', cell: ({ row }) => keepsText(row) },
      ]}
    />
  );
}

function holds(aggression: number | null, from: number | null, to: number | null): boolean {
  return aggression !== null && from !== null && to !== null && aggression >= from && aggression <= to;
}

function keepsText({ breaks }: WhatIfRow): string {
  if (breaks.length === 0) return 'all';
  return `not ${breaks.map(({ requirement, why }) => `${REQUIREMENT_WORDS[requirement]} (${printable(why)})`).join(', ')}`;
}

function notMoved({ state, migratingTo, guest, bandwidthBytesPerSec }: WhatIf): string {
  switch (state) {
    case 'paused':
      return `It writes nothing while it is paused: at ${formatRate(bandwidthBytesPerSec)} it is sent in about ${formatDuration(bandwidthBytesPerSec > 0 ? (guest.touchedBytes / bandwidthBytesPerSec) * 1_000 : Number.NaN)}, and nothing is throttled.`;
    case 'shutOff':
      return 'It has no memory to send, so there is nothing to predict.';
    case 'migrating':
      return `It is being migrated to ${printable(migratingTo ?? 'another host')} now: ask again when that has ended.`;
    default:
      return 'It does not run here, so there is nothing to predict.';
  }
}

function estimateText(
  { value, low, high }: NonNullable<WhatIf['model']>['rateBytesPerSec'],
  format: (value: number) => string,
): string | null {
  if (value !== null) return intervalText({ value, low, high: high ?? value }, format);
  if (low > 0 && high !== null) return `${format(low)} to ${format(high)}`;
  if (low > 0) return `at least ${format(low)}`;
  return high === null ? null : `at most ${format(high)}`;
}
