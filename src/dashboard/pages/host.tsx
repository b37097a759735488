/** One host: what it carries, the VMs on it, and what may be done with it. */
import { useState } from 'preact/hooks';
import { formatDuration, formatRate, formatSize } from '../../domain/format.ts';
import { hrefOf } from '../lib/route.ts';
import { momentText, printable } from '../lib/words.ts';
import { useLive, useMay, useOpenOperations, useServer } from '../net/hooks.ts';
import { asError } from '../net/problem.ts';
import type { ControlOutcome, HostWithVms, Vm } from '../net/types.ts';
import { ActionButton } from '../parts/act.tsx';
import { useAnnounce } from '../parts/announce.tsx';
import { Badge, Empty, Facts, Loading, PageHead, Problem } from '../parts/small.tsx';
import { Table } from '../parts/table.tsx';
import { HostState, MemoryMeter, RateMeter } from './fleet.tsx';

const VM_WORDS: Readonly<Record<Vm['state'], string>> = {
  running: 'running',
  paused: 'paused',
  shutOff: 'shut off',
  incoming: 'arriving',
  postMigrate: 'has left',
};

export function HostPage({ host }: { readonly host: string }) {
  const path = `/v1/hosts/${encodeURIComponent(host)}`;
  const live = useLive<HostWithVms>(path, { concerns: (news) => news.kind === 'hosts', everyMs: 5_000 });
  const operation = useOpenOperations().find((each) => each.host === host) ?? null;
  const mayChange = useMay('operator');
  const isAdmin = useMay('admin');
  const { data } = live;
  return (
    <>
      <PageHead
        title={printable(host)}
        above={<a href="#/">Fleet</a>}
        badge={data !== null && <HostState host={data} operation={operation} />}
        actions={
          mayChange &&
          data !== null && (
            <>
              {data.cordoned ? (
                <ActionButton
                  action={{ text: 'Uncordon', path: `${path}/uncordon`, title: `Let ${host} take VMs again?` }}
                  onDone={live.refresh}
                />
              ) : (
                <ActionButton
                  action={{
                    text: 'Cordon',
                    path: `${path}/cordon`,
                    title: `Cordon ${host}?`,
                    children: <p>It takes no VMs until it is uncordoned. Those that run there stay.</p>,
                  }}
                  onDone={live.refresh}
                />
              )}
              <a class="button primary" href={hrefOf({ page: 'evacuate', host })}>
                Evacuate…
              </a>
            </>
          )
        }
      />
      <Problem problem={live.problem} />
      {data === null ? (
        live.problem === null && <Loading what={host} />
      ) : (
        <>
          <section class="card" aria-labelledby="capacity-title">
            <div class="card-head">
              <h2 id="capacity-title">Capacity</h2>
            </div>
            <div class="meters">
              <div>
                <h3>Memory</h3>
                <MemoryMeter host={data} />
              </div>
              <div>
                <h3>Egress</h3>
                <RateMeter use={data.egress} />
              </div>
              <div>
                <h3>Ingress</h3>
                <RateMeter use={data.ingress} />
              </div>
            </div>
            <Facts
              facts={[
                { term: 'CPUs', value: data.cpus },
                { term: 'Links', value: data.links.length === 0 ? 'none named' : data.links.map(printable).join(', ') },
                {
                  term: 'Last seen',
                  value: data.inventoryAgeMs === null ? 'never' : `${formatDuration(data.inventoryAgeMs)} ago`,
                },
                data.capacityOverride === null
                  ? null
                  : {
                      term: 'Set by hand',
                      value: `${overrideText(data.capacityOverride)} by ${printable(data.capacityOverride.by)} at ${momentText(data.capacityOverride.atMs)}`,
                    },
              ]}
            />
            {isAdmin && <CapacityForm host={data} path={`${path}/capacity`} onDone={live.refresh} />}
          </section>
          <section aria-labelledby="vms-title">
            <h2 id="vms-title">VMs</h2>
            {data.vms.length === 0 ? (
              <Empty title="No VM is here." />
            ) : (
              <Table
                caption={`VMs on ${host}`}
                rows={data.vms}
                keyOf={({ uuid, vm }) => `${uuid} ${vm}`}
                columns={[
                  {
                    key: 'vm',
                    title: 'VM',
                    heads: true,
                    cell: ({ vm }) => <a href={hrefOf({ page: 'whatIf', vm })}>{printable(vm)}</a>,
                  },
                  {
                    key: 'state',
                    title: 'State',
                    cell: ({ state }) => <Badge tone={state === 'running' ? 'good' : 'quiet'}>{VM_WORDS[state]}</Badge>,
                  },
                  {
                    key: 'memory',
                    title: 'Memory',
                    align: 'right',
                    cell: ({ memoryBytes }) => formatSize(memoryBytes),
                  },
                  { key: 'cpus', title: 'CPUs', align: 'right', cell: ({ cpus }) => cpus },
                  {
                    key: 'operation',
                    title: 'Moved by',
                    cell: ({ operation: id }) =>
                      id === null ? (
                        <span class="none">nobody</span>
                      ) : (
                        <a href={hrefOf({ page: 'operation', id })}>{printable(id)}</a>
                      ),
                  },
                  {
                    key: 'do',
                    title: 'What if',
                    align: 'right',
                    class: 'do',
                    cell: ({ vm }) => (
                      <a
                        class="button small"
                        href={hrefOf({ page: 'whatIf', vm })}
                        aria-label={`What would moving ${vm} cost?`}
                      >
                        What if…
                      </a>
                    ),
                  },
                ]}
              />
            )}
          </section>
        </>
      )}
    </>
  );
}

function overrideText({ egress, ingress }: NonNullable<HostWithVms['capacityOverride']>): string {
  return [
    ...(egress === undefined ? [] : [`egress ${formatRate(egress)}`]),
    ...(ingress === undefined ? [] : [`ingress ${formatRate(ingress)}`]),
  ].join(', ');
}

function CapacityForm({
  host,
  path,
  onDone,
}: {
  readonly host: HostWithVms;
  readonly path: string;
  readonly onDone: () => void;
}) {
  const server = useServer();
  const announce = useAnnounce();
  const [egress, setEgress] = useState('');
  const [ingress, setIngress] = useState('');
  const [problem, setProblem] = useState<Error | null>(null);
  const send = async (event: Event | null): Promise<void> => {
    event?.preventDefault();
    setProblem(null);
    try {
      const body = { ...(egress.trim() === '' ? {} : { egress }), ...(ingress.trim() === '' ? {} : { ingress }) };
      const outcome =
        event === null
          ? await server.request<ControlOutcome>('DELETE', path)
          : await server.request<ControlOutcome>('PUT', path, body);
      announce(outcome.message);
      setEgress('');
      setIngress('');
      onDone();
    } catch (error) {
      setProblem(asError(error));
    }
  };
  return (
    <details class="more">
      <summary>Change what it may send and take</summary>
      <form class="form row" onSubmit={(event) => void send(event)}>
        <label class="field">
          <span>Egress</span>
          <input
            value={egress}
            placeholder={formatRate(host.egress.capacity)}
            onInput={(event) => setEgress(event.currentTarget.value)}
          />
        </label>
        <label class="field">
          <span>Ingress</span>
          <input
            value={ingress}
            placeholder={formatRate(host.ingress.capacity)}
            onInput={(event) => setIngress(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="button" disabled={egress.trim() === '' && ingress.trim() === ''}>
          Set
        </button>
        {host.capacityOverride !== null && (
          <button type="button" class="button" onClick={() => void send(null)}>
            As the fleet file says
          </button>
        )}
      </form>
      <Problem problem={problem} />
    </details>
  );
}
