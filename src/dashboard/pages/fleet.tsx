/** All hosts: how full they are, what they send and take, and which are being emptied. */
import { useState } from 'preact/hooks';
import { formatDuration, formatRate, formatSize, intervalText } from '../../domain/format.ts';
import { findHosts, type HostOrder, memoryPart, part, type Sorting, sortedBy } from '../lib/hosts.ts';
import { hrefOf } from '../lib/route.ts';
import { counted, OPERATION_WORDS, printable } from '../lib/words.ts';
import { useLive, useMay, useOpenOperations } from '../net/hooks.ts';
import type { Host, Hosts, Operation, OperationSummary } from '../net/types.ts';
import { Badge, Empty, Loading, Meter, PageHead, Problem } from '../parts/small.tsx';
import { type Column, Table } from '../parts/table.tsx';

const ORDERS: readonly (readonly [HostOrder, string])[] = [
  ['host', 'name'],
  ['vms', 'VMs'],
  ['memory', 'memory in use'],
  ['egress', 'egress in use'],
  ['ingress', 'ingress in use'],
];
type Key = HostOrder | 'state' | 'do';

export function FleetPage() {
  const hosts = useLive<Hosts>('/v1/hosts', { concerns: (news) => news.kind === 'hosts', everyMs: 5_000 });
  const open = useOpenOperations(15_000);
  const mayChange = useMay('operator');
  const [text, setText] = useState('');
  const [sorting, setSorting] = useState<Sorting<HostOrder>>({ by: 'host', descending: false });
  const all = hosts.data?.items ?? [];
  const shown = findHosts(all, text, sorting);
  const emptying = new Map(open.flatMap((operation) => (operation.host === null ? [] : [[operation.host, operation]])));
  const vms = all.reduce((sum, host) => sum + host.runningVms, 0);
  const columns: Column<Host, Key>[] = [
    {
      key: 'host',
      title: 'Host',
      heads: true,
      sortable: true,
      cell: ({ host }) => <a href={hrefOf({ page: 'host', host })}>{printable(host)}</a>,
    },
    {
      key: 'state',
      title: 'State',
      cell: (host) => <HostState host={host} operation={emptying.get(host.host) ?? null} />,
    },
    { key: 'vms', title: 'VMs', sortable: true, align: 'right', cell: ({ runningVms }) => runningVms },
    { key: 'memory', title: 'Memory', sortable: true, cell: (host) => <MemoryMeter host={host} /> },
    {
      key: 'egress',
      title: 'Egress',
      sortable: true,
      cell: ({ egress }) => <RateMeter use={egress} />,
    },
    {
      key: 'ingress',
      title: 'Ingress',
      sortable: true,
      cell: ({ ingress }) => <RateMeter use={ingress} />,
    },
  ];
  if (mayChange) {
    columns.push({
      key: 'do',
      title: 'Do',
      align: 'right',
      class: 'do',
      cell: ({ host }) => (
        <a class="button small" href={hrefOf({ page: 'evacuate', host })} aria-label={`Evacuate ${host}`}>
          Evacuate…
        </a>
      ),
    });
  }
  return (
    <>
      <PageHead title="Fleet">
        {hosts.data !== null && (
          <p class="lead">
            {counted(all.length, 'host')}, {counted(vms, 'running VM')}, {counted(open.length, 'open operation')}
          </p>
        )}
      </PageHead>
      <Problem problem={hosts.problem} />
      {hosts.data === null ? (
        <Loading what="hosts" />
      ) : all.length === 0 ? (
        <Empty title="No host is known yet.">The fleet file names the hosts; workers report what runs on them.</Empty>
      ) : (
        <>
          <div class="tools">
            <label class="field inline">
              <span>Find</span>
              <input
                type="search"
                value={text}
                placeholder="name, cordoned, unserved, down"
                onInput={(event) => setText(event.currentTarget.value)}
              />
            </label>
            <label class="field inline phone-only">
              <span>Sort by</span>
              <select
                value={sorting.by}
                onChange={(event) =>
                  setSorting(
                    sortedBy(
                      { ...sorting, by: 'host' },
                      event.currentTarget.value as HostOrder,
                      event.currentTarget.value === 'host',
                    ),
                  )
                }
              >
                {ORDERS.map(([key, word]) => (
                  <option key={key} value={key}>
                    {word}
                  </option>
                ))}
              </select>
            </label>
            <p class="found" aria-live="polite">
              {text === '' ? '' : `${shown.length} of ${all.length}`}
            </p>
          </div>
          {shown.length === 0 ? (
            <Empty title={`No host has “${text}” in its name or state.`} />
          ) : (
            <Table
              caption="Hosts"
              columns={columns}
              rows={shown}
              keyOf={({ host }) => host}
              sorting={sorting}
              onSort={(key) => {
                if (key !== 'state' && key !== 'do') setSorting(sortedBy(sorting, key, key === 'host'));
              }}
            />
          )}
        </>
      )}
    </>
  );
}

export function MemoryMeter({ host }: { readonly host: Pick<Host, 'memoryBytes' | 'memoryUsedBytes'> }) {
  const text = `${formatSize(host.memoryUsedBytes)} of ${formatSize(host.memoryBytes)}`;
  return <Meter part={memoryPart(host)} text={text} scarce />;
}

export function RateMeter({ use }: { readonly use: Host['egress'] }) {
  return <Meter part={part(use)} text={`${formatRate(use.counted)} of ${formatRate(use.capacity)}`} />;
}

/** What is out of the ordinary about a host; nothing is: ready. */
export function HostState({ host, operation }: { readonly host: Host; readonly operation: OperationSummary | null }) {
  return (
    <span class="badges">
      {host.down && <Badge tone="bad">down</Badge>}
      {!host.served && !host.down && (
        <Badge tone="bad">{host.inventoryAgeMs === null ? 'never reported' : 'no worker'}</Badge>
      )}
      {host.cordoned && <Badge tone="warn">cordoned</Badge>}
      {host.served && !host.cordoned && !host.down && operation === null && <Badge tone="good">ready</Badge>}
      {operation !== null && <Emptying operation={operation} />}
    </span>
  );
}

function Emptying({ operation }: { readonly operation: OperationSummary }) {
  const live = useLive<Operation>(`/v1/operations/${encodeURIComponent(operation.id)}`, { everyMs: 2_000 });
  const eta = live.data?.etaMs ?? null;
  const { state } = operation;
  const words = state === 'awaitingApproval' || state === 'paused' ? OPERATION_WORDS[state][0] : 'being emptied';
  return (
    <a class="emptying" href={hrefOf({ page: 'operation', id: operation.id })}>
      {words}: {operation.vms.done} of {operation.vms.total}
      {eta !== null && <span class="eta">, in {intervalText(eta, formatDuration)}</span>}
    </a>
  );
}
