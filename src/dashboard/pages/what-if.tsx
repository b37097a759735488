/** What would moving this VM cost now? Measures, then shows for every aggression what it comes to and what it would break. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { coresText, estimateText, formatDuration, formatRate, formatSize } from '../../domain/format.ts';
import { DEADLINE_WORDS, notMoved, REQUIREMENT_WORDS, whatIfFigures } from '../../domain/what-if-words.ts';
import { NO_DRAFT, ownRequirements, policyFields } from '../lib/draft.ts';
import { hrefOf } from '../lib/route.ts';
import { steps, type WhatIfRow } from '../lib/what-if.ts';
import { clockText, counted, printable } from '../lib/words.ts';
import { useLive, usePolicyChoices, useServer } from '../net/hooks.ts';
import { asError } from '../net/problem.ts';
import type { Vm, WhatIf } from '../net/types.ts';
import { useAnnounce } from '../parts/announce.tsx';
import { OwnRequirements, PolicySelect } from '../parts/policy-fields.tsx';
import { Badge, Empty, Facts, Loading, Notes, PageHead, Problem } from '../parts/small.tsx';
import { Costs, Requirements } from '../parts/what-if-costs.tsx';
import { Rows } from '../parts/what-if-rows.tsx';

/** The looks take 3 s of fleet time, and a slow fleet's seconds are long. */
const LIMIT_MS = 60_000;

export function WhatIfPage({ vm }: { readonly vm: string }) {
  const server = useServer();
  const announce = useAnnounce();
  const choices = usePolicyChoices();
  const [draft, setDraft] = useState(NO_DRAFT);
  /** What is measured with: half a word is not. */
  const [applied, setApplied] = useState(NO_DRAFT);
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
    try {
      const value = await server.request<WhatIf>(
        'POST',
        `/v1/vms/${encodeURIComponent(vm)}/what-if`,
        policyFields(applied),
        {
          signal: stop.signal,
          limitMs: LIMIT_MS,
        },
      );
      setAnswer({ value, atMs: Date.now() });
      announce(`${vm} is measured.`);
    } catch (error) {
      if (stop.signal.aborted) return;
      setProblem(asError(error));
    }
    setMeasuring(false);
  };
  useEffect(() => {
    void measure();
    return () => asked.current?.abort();
  }, [vm, applied]);
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
            <PolicySelect
              value={draft.policy}
              fallback="maintenance"
              choices={choices}
              inline
              onChange={(policy) => {
                setDraft({ ...draft, policy });
                setApplied({ ...applied, policy });
              }}
            />
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
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setApplied({ ...draft });
        }}
      >
        <OwnRequirements draft={draft} inForce={ownRequirements(applied)} onChange={setDraft}>
          <button type="submit" class="button" disabled={measuring}>
            Measure with these
          </button>
        </OwnRequirements>
      </form>
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
        <Empty title={notMoved(answer) ?? 'There is nothing to predict.'} />
      ) : (
        <>
          <div class="beside">
            <section class="card" aria-labelledby="cost-title">
              <h2 id="cost-title">What it would cost</h2>
              <AggressionSlider rows={throttled} place={place} onPlace={setPlace} answer={answer} />
              <Costs row={row} free={free} answer={answer} />
            </section>
            <section class="card" aria-labelledby="requirements-title">
              <h2 id="requirements-title">What is required</h2>
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
            { term: 'Uses', value: coresText(guest.demandCores) },
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
        {row.chosen && <Badge tone="good">what would be done</Badge>}
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
