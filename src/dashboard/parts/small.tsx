/** Small pieces that pages are made of: badges, meters, intervals, problems, empty places, progress. */
import type { ComponentChildren } from 'preact';
import { useEffect } from 'preact/hooks';
import type { Interval } from '../../domain/prediction.ts';
import type { MoveState, OperationState } from '../../domain/states.ts';
import { MOVE_WORDS, OPERATION_WORDS, printable, type Tone } from '../lib/words.ts';
import { ApiProblem } from '../net/problem.ts';

export function Badge({ tone, children }: { readonly tone: Tone; readonly children: ComponentChildren }) {
  return <span class={`badge tone-${tone}`}>{children}</span>;
}

export function OperationBadge({ state }: { readonly state: OperationState }) {
  const [word, tone] = OPERATION_WORDS[state];
  return <Badge tone={tone}>{word}</Badge>;
}

export function MoveBadge({ state }: { readonly state: MoveState }) {
  const [word, tone] = MOVE_WORDS[state];
  return <Badge tone={tone}>{word}</Badge>;
}

/** How much of something is in use: the figures in words, and a bar for the eye. */
export function Meter({
  part,
  text,
  scarce = false,
}: {
  readonly part: number;
  readonly text: string;
  /** Little left of it is a worry. */
  readonly scarce?: boolean;
}) {
  const percent = Math.round(Math.min(1, Math.max(0, part)) * 100);
  const tone = !scarce ? 'low' : part >= 0.95 ? 'full' : part >= 0.85 ? 'high' : 'low';
  return (
    <div class="meter">
      <span class="meter-text">{text}</span>
      <div class="meter-track" aria-hidden="true">
        <div class={`meter-fill ${tone}`} style={{ width: `${percent}%` }} />
      </div>
    </div>
  );
}

export function ProgressBar({ part, label }: { readonly part: number; readonly label: string }) {
  const percent = Math.floor(Math.min(1, Math.max(0, part)) * 100);
  return (
    <div
      class="progress"
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={percent}
    >
      <div class="progress-fill" style={{ width: `${percent}%` }} />
    </div>
  );
}

/** An interval on a common scale: where nine of ten outcomes lie, and the median in it. */
export function IntervalBar({ interval, most }: { readonly interval: Interval; readonly most: number }) {
  const at = (value: number): string => `${Math.min(100, Math.max(0, (value / Math.max(most, 1e-9)) * 100))}%`;
  const width = `${Math.max(0.8, Math.min(100, ((Math.min(interval.high, most) - interval.low) / Math.max(most, 1e-9)) * 100))}%`;
  return (
    <div class="interval" aria-hidden="true">
      <div class="interval-range" style={{ left: at(interval.low), width }} />
      <div class="interval-median" style={{ left: at(interval.value) }} />
    </div>
  );
}

/** What the server says is wrong, with every fault's remedy. */
export function Problem({ problem }: { readonly problem: Error | null }) {
  if (problem === null) return null;
  const faults = problem instanceof ApiProblem ? problem.faults : [];
  const lines = problem.message.split('\n').filter((line) => line.trim() !== '');
  return (
    <div class="notice tone-bad" role="alert">
      {/* The faults stand below, each by itself. */}
      {(faults.length > 0 ? lines.slice(0, 1) : lines).map((line) => (
        <p key={line}>{printable(line)}</p>
      ))}
      {faults.length > 0 && (
        <ul>
          {faults.map((fault) => (
            <li key={`${fault.path} ${fault.message}`}>
              <code>{printable(fault.path)}</code>
              {fault.value !== '' && ` (${printable(fault.value)})`}: {printable(fault.message)}
              {fault.remedy !== '' && <span class="remedy"> {printable(fault.remedy)}</span>}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

export function Notes({
  title,
  lines,
  tone = 'warn',
}: {
  readonly title: string;
  readonly lines: readonly string[];
  readonly tone?: Tone;
}) {
  if (lines.length === 0) return null;
  return (
    <div class={`notice tone-${tone}`}>
      <p class="notice-title">{title}</p>
      <ul>
        {lines.map((line) => (
          <li key={line}>{printable(line)}</li>
        ))}
      </ul>
    </div>
  );
}

export function Empty({ title, children }: { readonly title: string; readonly children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children !== undefined && <div class="empty-more">{children}</div>}
    </div>
  );
}

/** Before the first answer. */
export function Loading({ what }: { readonly what: string }) {
  return <p class="loading">Loading {what}…</p>;
}

export interface Fact {
  readonly term: string;
  readonly value: ComponentChildren;
}

export function Facts({ facts }: { readonly facts: readonly (Fact | null)[] }) {
  return (
    <dl class="facts">
      {facts.map(
        (fact) =>
          fact !== null && (
            <div key={fact.term}>
              <dt>{fact.term}</dt>
              <dd>{fact.value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

export function PageHead({
  title,
  above,
  badge,
  actions,
  children,
}: {
  readonly title: string;
  readonly above?: ComponentChildren;
  readonly badge?: ComponentChildren;
  readonly actions?: ComponentChildren;
  readonly children?: ComponentChildren;
}) {
  useEffect(() => {
    document.title = `${title} · hostevac`;
  }, [title]);
  return (
    <div class="page-head">
      <div class="page-head-words">
        {above !== undefined && <p class="crumbs">{above}</p>}
        <div class="page-title">
          <h1 tabIndex={-1}>{title}</h1>
          {badge}
        </div>
        {children}
      </div>
      {actions !== undefined && <div class="actions">{actions}</div>}
    </div>
  );
}
