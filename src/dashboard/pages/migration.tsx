/** One migration: what remains, how fast it goes, what the guest is left with, and every decision with its reason. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { formatDuration, formatRate, formatShare, formatSize, intervalText } from '../../domain/format.ts';
import type { Prediction } from '../../domain/prediction.ts';
import { ENDED_MOVE_STATES } from '../../domain/states.ts';
import { REQUIREMENT_WORDS } from '../../domain/what-if-words.ts';
import { hrefOf } from '../lib/route.ts';
import { type Decision, type Point, seriesOf, withPoint } from '../lib/samples.ts';
import { printable, sinceText } from '../lib/words.ts';
import { useLive, useStream } from '../net/hooks.ts';
import type { Migration, ProgressPoint } from '../net/types.ts';
import { Chart } from '../parts/chart.tsx';
import { Empty, Facts, Loading, MoveBadge, Notes, PageHead, Problem } from '../parts/small.tsx';

export function MigrationPage({ id }: { readonly id: string }) {
  const path = `/v1/migrations/${encodeURIComponent(id)}`;
  const [ended, setEnded] = useState(false);
  const live = useLive<Migration>(path, {
    concerns: (news) => news.kind === 'event' && news.event.moveId === id,
    ...(ended ? {} : { everyMs: 1_000 }),
  });
  const { data } = live;
  const over = data !== null && ENDED_MOVE_STATES.has(data.state);
  useEffect(() => setEnded(over), [over]);
  const points = useProgress(`${path}/progress`);
  return (
    <>
      <PageHead
        title={data === null ? `Migration ${id}` : printable(`${data.vm}: ${data.source} to ${data.destination}`)}
        above={
          <>
            <a href="#/operations">Operations</a>
            {data !== null && (
              <>
                {' / '}
                <a href={hrefOf({ page: 'operation', id: data.operationId })}>{printable(data.operationId)}</a>
              </>
            )}
          </>
        }
        badge={data !== null && <MoveBadge state={data.state} />}
      >
        {data !== null && (
          <p class="lead">
            Attempt {data.attempt}, <span class="id">{printable(id)}</span>
          </p>
        )}
      </PageHead>
      <Problem problem={live.problem} />
      {data === null ? (
        live.problem === null && <Loading what="the migration" />
      ) : (
        <Body migration={data} points={points} />
      )}
    </>
  );
}

/** What the server has recorded, then what comes. */
function useProgress(path: string): readonly Point[] {
  const [points, setPoints] = useState<readonly Point[]>([]);
  const waiting = useRef<ProgressPoint[]>([]);
  const frame = useRef(0);
  const show = (): void => {
    frame.current = 0;
    const fresh = waiting.current;
    waiting.current = [];
    setPoints((before) => fresh.reduce<readonly Point[]>((all, point) => withPoint(all, point), before));
  };
  useStream(path, ({ event, data }) => {
    if (event !== 'progress') return;
    waiting.current.push(JSON.parse(data) as ProgressPoint);
    // A whole recording comes at once: it is shown at once.
    if (frame.current === 0) frame.current = requestAnimationFrame(show);
  });
  useEffect(
    () => () => {
      cancelAnimationFrame(frame.current);
      frame.current = 0;
      waiting.current = [];
    },
    [path],
  );
  return points;
}

function Body({ migration, points }: { readonly migration: Migration; readonly points: readonly Point[] }) {
  const series = useMemo(() => seriesOf(points, migration.startedAtMs), [points, migration.startedAtMs]);
  return (
    <>
      <Notes
        title={migration.state === 'failed' ? 'Failed' : 'Why'}
        tone={migration.state === 'failed' ? 'bad' : 'warn'}
        lines={migration.reason === null ? [] : [migration.reason.message]}
      />
      <section class="card" aria-labelledby="charts-title">
        <h2 id="charts-title">Course</h2>
        {series.seconds.length === 0 ? (
          <Empty title={migration.startedAtMs === null ? 'It has not begun.' : 'Nobody has recorded its course.'}>
            The server records while it runs; what was before it started is not kept.
          </Empty>
        ) : (
          <Charts series={series} />
        )}
      </section>
      <div class="columns">
        <section class="card" aria-labelledby="figures-title">
          <h2 id="figures-title">Figures</h2>
          <Figures migration={migration} />
        </section>
        <section class="card" aria-labelledby="predicted-title">
          <h2 id="predicted-title">Predicted</h2>
          <Predictions migration={migration} />
        </section>
      </div>
      <section aria-labelledby="relaxed-title">
        <h2 id="relaxed-title">Requirements that gave way</h2>
        {migration.relaxed.length === 0 ? (
          <p class="hint">None: the policy was kept so far.</p>
        ) : (
          <ul class="plain">
            {migration.relaxed.map(({ requirement, atMs, why }) => (
              <li key={`${requirement} ${atMs}`}>
                <b>
                  {requirement in REQUIREMENT_WORDS
                    ? REQUIREMENT_WORDS[requirement as keyof typeof REQUIREMENT_WORDS]
                    : printable(requirement)}
                </b>
                {migration.startedAtMs !== null && ` ${sinceText(atMs - migration.startedAtMs)}`}: {printable(why)}
              </li>
            ))}
          </ul>
        )}
      </section>
    </>
  );
}

function Charts({ series }: { readonly series: ReturnType<typeof seriesOf> }) {
  const { seconds, remaining, rate, dirtyRate, grant, share, decisions } = series;
  const [chosen, setChosen] = useState<number | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const known = useRef(decisions);
  known.current = decisions;
  const place = pointed ?? chosen ?? decisions.length - 1;
  const selected: Decision | null = decisions[Math.min(place, decisions.length - 1)] ?? null;
  const onPoint = (index: number | null): void => {
    if (index === null) setPointed(null);
    else {
      const at = known.current.findLastIndex((decision) => decision.index <= index);
      setPointed(at < 0 ? null : at);
    }
  };
  const common = { seconds, decisions, selected, onPoint };
  const lines = useMemo(
    () => ({
      remaining: [{ label: 'remains', colour: 'line-1', values: remaining }],
      rates: [
        { label: 'sent', colour: 'line-1', values: rate },
        { label: 'dirtied', colour: 'line-2', values: dirtyRate },
        { label: 'granted', colour: 'line-3', values: grant, dashed: true, stepped: true },
      ],
      share: [{ label: 'allowed', colour: 'line-4', values: share, stepped: true }],
    }),
    [series],
  );
  const last = (values: readonly number[]): number => values.at(-1) ?? 0;
  return (
    <>
      <div class="decision">
        <div class="decision-head">
          <label for="decision">
            Decision{' '}
            <span class="figure">{decisions.length === 0 ? 0 : Math.min(place, decisions.length - 1) + 1}</span> of{' '}
            {decisions.length}
          </label>
          <input
            id="decision"
            type="range"
            min={0}
            max={Math.max(0, decisions.length - 1)}
            step={1}
            value={Math.max(0, Math.min(place, decisions.length - 1))}
            disabled={decisions.length < 2}
            aria-valuetext={selected === null ? 'none yet' : decisionText(selected, series.startMs)}
            onInput={(event) => {
              const next = Number(event.currentTarget.value);
              setPointed(null);
              // At the newest it stays with the newest.
              setChosen(next === decisions.length - 1 ? null : next);
            }}
          />
        </div>
        <p id="reason" class="decision-why">
          {selected === null ? 'No decision yet.' : printable(decisionText(selected, series.startMs))}
        </p>
      </div>
      <Chart
        {...common}
        title="Remaining"
        text={`Remaining bytes over time: ${formatSize(remaining[0] ?? 0)} at first, ${formatSize(last(remaining))} at last.`}
        lines={lines.remaining}
        format={formatSize}
      />
      <Chart
        {...common}
        title="Rates"
        text={`Rates over time: ${formatRate(last(rate))} sent, ${formatRate(last(dirtyRate))} dirtied at last.`}
        lines={lines.rates}
        format={formatRate}
      />
      <Chart
        {...common}
        title="CPU share"
        text={`Share of its CPU demand that the guest is allowed over time: ${formatShare(last(share))} at last, ${formatShare(Math.min(...share))} at least.`}
        lines={lines.share}
        format={formatShare}
        most={1}
      />
    </>
  );
}

/** The reason begins with the share. */
function decisionText({ atMs, pass, why }: Decision, startMs: number): string {
  return `${sinceText(atMs - startMs)}, pass ${pass}: ${why}`;
}

function Figures({ migration }: { readonly migration: Migration }) {
  const { figures, progress, headStartMs, startedAtMs, endedAtMs } = migration;
  const runs = startedAtMs !== null && endedAtMs === null;
  return (
    <Facts
      facts={[
        progress === null || !runs ? null : { term: 'Pass', value: progress.pass },
        progress === null || !runs
          ? null
          : { term: 'Remains', value: `${formatSize(progress.remainingBytes)} of ${formatSize(progress.totalBytes)}` },
        progress === null || !runs
          ? null
          : {
              term: 'Sent with',
              value: `${formatRate(progress.rateBytesPerSec)} of ${formatRate(progress.grantBytesPerSec)} granted`,
            },
        progress === null || !runs ? null : { term: 'Dirtied with', value: formatRate(progress.dirtyRateBytesPerSec) },
        { term: 'Total time', value: formatDuration(figures.totalMs) },
        { term: 'Downtime', value: formatDuration(figures.downtimeMs) },
        { term: 'Transferred', value: formatSize(figures.transferredBytes) },
        {
          term: 'CPU share',
          value: `${formatShare(figures.meanShare)} on average, ${formatShare(figures.minShare)} at least`,
        },
        { term: 'Harm (CPU time)', value: formatDuration(figures.harmCpuMs) },
        headStartMs > 0 ? { term: 'Head start', value: formatDuration(headStartMs) } : null,
      ]}
    />
  );
}

function Predictions({ migration }: { readonly migration: Migration }) {
  const { predicted, progress, endedAtMs } = migration;
  const now = endedAtMs === null ? (progress?.prediction ?? null) : null;
  if (predicted === null && now === null) return <p class="hint">Nothing could be predicted.</p>;
  return (
    <>
      {predicted !== null && (
        <>
          <h3>Before the start</h3>
          <Facts facts={predictionFacts(predicted)} />
        </>
      )}
      {now !== null && (
        <>
          <h3>From now on</h3>
          <Facts facts={predictionFacts(now)} />
        </>
      )}
    </>
  );
}

function predictionFacts(prediction: Prediction) {
  return [
    { term: 'Total time', value: intervalText(prediction.totalMs, formatDuration) },
    { term: 'Downtime', value: intervalText(prediction.downtimeMs, formatDuration) },
    { term: 'Transferred', value: intervalText(prediction.transferredBytes, formatSize) },
    { term: 'Harm (CPU time)', value: intervalText(prediction.harmCpuMs, formatDuration) },
    {
      term: 'CPU share',
      value: `${formatShare(prediction.meanShare)} on average, ${formatShare(prediction.minShare)} at least`,
    },
    { term: 'Ends in time', value: formatShare(prediction.endsInTime) },
  ];
}
