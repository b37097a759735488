/** All operations, newest first. */
import { useState } from 'preact/hooks';
import { formatDuration } from '../../domain/format.ts';
import { type OperationState, operationStates } from '../../domain/states.ts';
import { hrefOf } from '../lib/route.ts';
import { momentText, OPERATION_WORDS, operationTitle, printable } from '../lib/words.ts';
import type { OperationSummary } from '../net/types.ts';
import { MoreButton, usePaged } from '../parts/pages.tsx';
import { Empty, Loading, OperationBadge, PageHead, Problem, ProgressBar } from '../parts/small.tsx';
import { Table } from '../parts/table.tsx';

const PAGE = 25;

export function OperationsPage() {
  const [state, setState] = useState<OperationState | ''>('');
  const { items, problem, more } = usePaged<OperationSummary>(
    `/v1/operations?limit=${PAGE}${state === '' ? '' : `&state=${state}`}`,
    ({ id }) => id,
    { concerns: (news) => news.kind === 'operations', everyMs: 10_000 },
  );
  return (
    <>
      <PageHead title="Operations" />
      <Problem problem={problem} />
      <div class="tools">
        <label class="field inline">
          <span>State</span>
          <select value={state} onChange={(event) => setState(event.currentTarget.value as OperationState | '')}>
            <option value="">all</option>
            {operationStates.map((each) => (
              <option key={each} value={each}>
                {OPERATION_WORDS[each][0]}
              </option>
            ))}
          </select>
        </label>
      </div>
      {items === null ? (
        problem === null && <Loading what="operations" />
      ) : items.length === 0 ? (
        <Empty title={state === '' ? 'Nothing was asked for yet.' : `No operation is ${OPERATION_WORDS[state][0]}.`}>
          <a href="#/">Choose a host to evacuate</a>
        </Empty>
      ) : (
        <>
          <Table
            caption="Operations, newest first"
            rows={items}
            keyOf={({ id }) => id}
            columns={[
              {
                key: 'what',
                title: 'Operation',
                heads: true,
                cell: ({ id, kind, host }) => (
                  <>
                    <a href={hrefOf({ page: 'operation', id })}>{printable(operationTitle(kind, host))}</a>
                    <span class="sub id">{printable(id)}</span>
                  </>
                ),
              },
              { key: 'state', title: 'State', cell: ({ state: its }) => <OperationBadge state={its} /> },
              {
                key: 'vms',
                title: 'VMs',
                cell: ({ vms, id }) => (
                  <div class="with-bar">
                    <span>
                      {vms.done} of {vms.total}
                      {vms.failed > 0 && <span class="bad-text">, {vms.failed} not</span>}
                    </span>
                    <ProgressBar
                      part={vms.total === 0 ? 0 : vms.done / vms.total}
                      label={`VMs of ${id} that are through`}
                    />
                  </div>
                ),
              },
              { key: 'policy', title: 'Policy', cell: ({ policy }) => printable(policy) },
              { key: 'asked', title: 'Asked for', cell: ({ createdAtMs }) => momentText(createdAtMs) },
              { key: 'took', title: 'Took', align: 'right', cell: tookText },
            ]}
          />
          <MoreButton more={more}>Older operations</MoreButton>
        </>
      )}
    </>
  );
}

function tookText({ startedAtMs, endedAtMs }: OperationSummary): string {
  return endedAtMs === null || startedAtMs === null ? '–' : formatDuration(endedAtMs - startedAtMs);
}
