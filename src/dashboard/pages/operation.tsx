/** One operation: what was planned beside what happens, every VM, what may be done, and what happened. */
import { useEffect, useState } from 'preact/hooks';
import { formatDuration, formatRate, formatShare, intervalText } from '../../domain/format.ts';
import type { Policy } from '../../domain/policy.ts';
import { ENDED_OPERATION_STATES, GONE_MOVE_STATES } from '../../domain/states.ts';
import { hrefOf } from '../lib/route.ts';
import { timelineOf } from '../lib/timeline.ts';
import { type VmRow, vmRows } from '../lib/vm-rows.ts';
import { counted, momentText, operationTitle, printable } from '../lib/words.ts';
import { useLive, useMay } from '../net/hooks.ts';
import type { News } from '../net/server.ts';
import type { Migration, Migrations, Operation } from '../net/types.ts';
import { ActionButton } from '../parts/act.tsx';
import { EventsLog } from '../parts/events.tsx';
import { PlanView } from '../parts/plan.tsx';
import { Facts, Loading, MoveBadge, Notes, OperationBadge, PageHead, Problem, ProgressBar } from '../parts/small.tsx';
import { Table } from '../parts/table.tsx';
import { TimelineView } from '../parts/timeline-view.tsx';

const LOOK_MS = 1_000;

export function OperationPage({ id }: { readonly id: string }) {
  const path = `/v1/operations/${encodeURIComponent(id)}`;
  const [ended, setEnded] = useState(false);
  const options = {
    concerns: (news: News) =>
      (news.kind === 'operations' && news.ids.includes(id)) || (news.kind === 'event' && news.event.operationId === id),
    ...(ended ? {} : { everyMs: LOOK_MS }),
  };
  const live = useLive<Operation>(path, options);
  const migrations = useLive<Migrations>(`${path}/migrations`, options);
  const operation = live.data;
  const over = operation !== null && ENDED_OPERATION_STATES.has(operation.state);
  useEffect(() => setEnded(over), [over]);
  const refresh = (): void => {
    live.refresh();
    migrations.refresh();
  };
  const moves = migrations.data?.items ?? [];
  return (
    <>
      <PageHead
        title={operation === null ? `Operation ${id}` : printable(operationTitle(operation.kind, operation.host))}
        above={<a href="#/operations">Operations</a>}
        badge={operation !== null && <OperationBadge state={operation.state} />}
        actions={operation !== null && !over && <Controls operation={operation} onDone={refresh} />}
      >
        <p class="lead">
          <span class="id">{printable(id)}</span>
        </p>
      </PageHead>
      <Problem problem={live.problem} />
      {operation === null ? (
        live.problem === null && <Loading what="the operation" />
      ) : (
        <Body operation={operation} moves={moves} path={path} />
      )}
    </>
  );
}

function Body({
  operation,
  moves,
  path,
}: {
  readonly operation: Operation;
  readonly moves: readonly Migration[];
  readonly path: string;
}) {
  const rows = vmRows(operation.tasks, moves, operation.nowMs);
  const since = operation.startedAtMs ?? operation.createdAtMs;
  const gone = rows.filter(({ state }) => GONE_MOVE_STATES.has(state)).length;
  const counts = rows.filter(({ state }) => state !== 'skipped').length;
  const timeline = timelineOf({
    vms: rows.map(({ vm }) => vm),
    moves,
    createdAtMs: operation.createdAtMs,
    nowMs: operation.nowMs,
    endedAtMs: operation.endedAtMs,
    etaMs: operation.etaMs,
  });
  const { proposal } = operation;
  return (
    <>
      <section class="card summary" aria-label="Summary">
        <div class="headline">
          <div>
            <p class="headline-figure">
              {gone}
              <span> of {counted(counts, 'VM')}</span>
            </p>
            <p class="hint">{operation.kind === 'evacuateNode' ? 'have left' : 'have moved'}</p>
          </div>
          <div>
            <p class="headline-figure" id="eta">
              {operation.endedAtMs !== null
                ? formatDuration(operation.endedAtMs - since)
                : operation.etaMs === null
                  ? '–'
                  : intervalText(operation.etaMs, formatDuration)}
            </p>
            <p class="hint">
              {operation.endedAtMs !== null
                ? 'it took'
                : operation.etaMs === null
                  ? 'nobody can tell yet how long it takes'
                  : operation.kind === 'evacuateNode'
                    ? 'until the host is empty; nine of ten times within the brackets'
                    : 'until all have moved; nine of ten times within the brackets'}
            </p>
          </div>
          {operation.endedAtMs === null && (
            <div>
              <p class="headline-figure">{formatDuration(Math.max(0, operation.nowMs - since))}</p>
              <p class="hint">so far</p>
            </div>
          )}
        </div>
        <ProgressBar
          part={
            counts === 0
              ? operation.endedAtMs === null
                ? 0
                : 1
              : rows.reduce((sum, row) => sum + (row.state === 'skipped' ? 0 : row.fraction), 0) / counts
          }
          label="The whole operation"
        />
        {operation.empty === true && (
          <p class="good-text">The host was seen empty. It stays cordoned until somebody uncordons it.</p>
        )}
        {operation.empty === false && <p class="bad-text">The host is not empty.</p>}
      </section>
      <Notes
        title={operation.state === 'failed' ? 'Failed' : 'Why'}
        tone={operation.state === 'failed' ? 'bad' : 'warn'}
        lines={operation.reason === null ? [] : [operation.reason.message]}
      />
      <Notes title="Waits" lines={operation.waitingFor} />
      {operation.state === 'awaitingApproval' && proposal !== null && (
        <section class="card" aria-labelledby="proposal-title">
          <h2 id="proposal-title">What is proposed</h2>
          <PlanView plan={proposal} />
        </section>
      )}
      {rows.length > 0 && (
        <section class="card" aria-labelledby="timeline-title">
          <h2 id="timeline-title">Plan against reality</h2>
          <TimelineView timeline={timeline} />
        </section>
      )}
      {rows.length > 0 && (
        <section aria-labelledby="vms-title">
          <h2 id="vms-title">VMs</h2>
          <VmTable rows={rows} />
        </section>
      )}
      <div class="columns">
        <section class="card" aria-labelledby="events-title">
          <h2 id="events-title">Events</h2>
          <EventsLog path={`${path}/events`} startMs={operation.createdAtMs} ended={operation.endedAtMs !== null} />
        </section>
        <section class="card" aria-labelledby="policy-title">
          <h2 id="policy-title">What was asked for</h2>
          <Facts facts={[...requestFacts(operation), ...policyFacts(operation.request.policy)]} />
        </section>
      </div>
    </>
  );
}

function VmTable({ rows }: { readonly rows: readonly VmRow<Migration>[] }) {
  return (
    <Table
      caption="VMs of this operation"
      rows={rows}
      keyOf={({ vm }) => vm}
      columns={[
        {
          key: 'vm',
          title: 'VM',
          heads: true,
          cell: ({ vm, move }) =>
            move === null ? printable(vm) : <a href={hrefOf({ page: 'migration', id: move.id })}>{printable(vm)}</a>,
        },
        { key: 'state', title: 'State', cell: ({ state }) => <MoveBadge state={state} /> },
        {
          key: 'to',
          title: 'To',
          class: 'name',
          cell: ({ destination }) => (destination === null ? '–' : printable(destination)),
        },
        { key: 'attempts', title: 'Attempts', align: 'right', cell: ({ attempts }) => attempts },
        {
          key: 'clean',
          title: 'There',
          cell: ({ vm, fraction, progress, state }) =>
            progress === null && !GONE_MOVE_STATES.has(state) ? (
              '–'
            ) : (
              <div class="with-bar">
                <span>{Math.floor(fraction * 100)}%</span>
                <ProgressBar part={fraction} label={`Memory of ${vm} that is at its destination`} />
              </div>
            ),
        },
        {
          key: 'share',
          title: 'CPU',
          align: 'right',
          cell: ({ progress, move, state }) =>
            progress !== null
              ? formatShare(progress.share)
              : state === 'done' && move !== null
                ? `≥ ${formatShare(move.figures.minShare)}`
                : '–',
        },
        { key: 'ends', title: 'Ends in', class: 'name', cell: endsText },
        { key: 'why', title: 'Why', class: 'prose', cell: (row) => <Why row={row} /> },
      ]}
    />
  );
}

function endsText({ progress, move, state }: VmRow<Migration>): string {
  if (progress !== null) {
    if (progress.prediction !== null) return intervalText(progress.prediction.totalMs, formatDuration);
    return progress.etaMs === null ? 'nobody can tell' : formatDuration(progress.etaMs);
  }
  return state === 'done' && move !== null ? `took ${formatDuration(move.figures.totalMs)}` : '–';
}

function Why({ row }: { readonly row: VmRow<Migration> }) {
  return (
    <>
      {row.why !== null && <span>{printable(row.why)}</span>}
      {row.lastFailure !== null && <span class="sub">Last failure: {printable(row.lastFailure)}</span>}
      {row.retryInMs !== null && <span class="sub">Tried again in {formatDuration(row.retryInMs)}</span>}
    </>
  );
}

function requestFacts({ request, createdAtMs, startedAtMs, round }: Operation) {
  return [
    { term: 'Asked for', value: momentText(createdAtMs) },
    startedAtMs === null ? null : { term: 'Begun', value: momentText(startedAtMs) },
    request.deadlineMs === null
      ? null
      : { term: 'Deadline', value: `${formatDuration(request.deadlineMs)} after that` },
    round > 1 ? { term: 'Planned', value: `${round} times` } : null,
  ];
}

function policyFacts(policy: Policy) {
  return [
    { term: 'Policy', value: `${printable(policy.name)}, aggression ${policy.aggression}` },
    { term: 'Min CPU', value: formatShare(policy.minCpuShare) },
    { term: 'Max stall', value: formatDuration(policy.maxStallMs) },
    { term: 'Max time', value: `${formatDuration(policy.maxTimeMs)} per VM, then ${policy.atDeadline}` },
    policy.maxBandwidthBytesPerSec === null
      ? null
      : { term: 'Max bandwidth', value: formatRate(policy.maxBandwidthBytesPerSec) },
  ];
}

function Controls({ operation, onDone }: { readonly operation: Operation; readonly onDone: () => void }) {
  const mayChange = useMay('operator');
  const [now, setNow] = useState(false);
  if (!mayChange) return null;
  const path = `/v1/operations/${encodeURIComponent(operation.id)}`;
  const { state, proposal } = operation;
  const pausable = state === 'running' || state === 'planning' || state === 'queued';
  return (
    <>
      <ActionButton
        onDone={onDone}
        action={{
          text: 'Cancel operation',
          path: `${path}/cancel`,
          title: 'Cancel this operation?',
          danger: true,
          children: (
            <p>Running migrations are ended; their VMs stay where they are, unthrottled. What has moved stays moved.</p>
          ),
        }}
      />
      {pausable && (
        <ActionButton
          onDone={onDone}
          action={{
            text: 'Pause',
            path: `${path}/pause`,
            body: { now },
            title: 'Pause this operation?',
            children: (
              <>
                <p>No new migration starts.</p>
                <label class="check">
                  <input type="checkbox" checked={now} onChange={(event) => setNow(event.currentTarget.checked)} />
                  <span>End the running ones, too; they are queued again</span>
                </label>
              </>
            ),
          }}
        />
      )}
      {state === 'paused' && (
        <ActionButton
          onDone={onDone}
          action={{ text: 'Resume', path: `${path}/resume`, title: 'Go on with this operation?', primary: true }}
        />
      )}
      {state === 'awaitingApproval' && proposal !== null && (
        <ActionButton
          onDone={onDone}
          action={{
            text: 'Approve',
            path: `${path}/approve`,
            // What is shown, and nothing that has come in its place.
            body: { hash: proposal.hash },
            title: 'Approve this plan?',
            primary: true,
            children: <PlanView plan={proposal} />,
          }}
        />
      )}
    </>
  );
}
