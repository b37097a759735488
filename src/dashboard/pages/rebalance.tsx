/** Moves that somebody names: this VM to that host, as many as wanted. */
import { useState } from 'preact/hooks';
import { NO_DRAFT, policyFields } from '../lib/draft.ts';
import { counted, printable } from '../lib/words.ts';
import { useLive, useMay } from '../net/hooks.ts';
import type { Hosts, VmPage } from '../net/types.ts';
import { PolicyFields } from '../parts/policy-fields.tsx';
import { PreviewAndStart } from '../parts/request.tsx';
import { Empty, PageHead, Problem } from '../parts/small.tsx';

interface Move {
  readonly vm: string;
  readonly to: string;
}

export function RebalancePage() {
  const mayChange = useMay('operator');
  const hosts = useLive<Hosts>('/v1/hosts', { concerns: (news) => news.kind === 'hosts' });
  const [name, setName] = useState('');
  const vms = useLive<VmPage>(
    `/v1/vms?limit=200${name.trim() === '' ? '' : `&name=${encodeURIComponent(name.trim())}`}`,
    {
      concerns: (news) => news.kind === 'hosts',
    },
  );
  const [vm, setVm] = useState('');
  const [to, setTo] = useState('');
  const [moves, setMoves] = useState<readonly Move[]>([]);
  const [draft, setDraft] = useState(NO_DRAFT);
  const known = vms.data?.items ?? [];
  const chosen = known.find((each) => each.vm === vm) ?? null;
  const places = (hosts.data?.items ?? []).filter((host) => host.host !== chosen?.host);
  const add = (event: Event): void => {
    event.preventDefault();
    if (vm === '' || to === '') return;
    setMoves([...moves.filter((move) => move.vm !== vm), { vm, to }]);
    setVm('');
    setTo('');
  };
  const body = moves.length === 0 ? null : { moves, ...policyFields(draft) };
  return (
    <>
      <PageHead title="Rebalance">
        <p class="lead">Name the moves. They are carried out together, within every host's bandwidth.</p>
      </PageHead>
      {!mayChange ? (
        <Empty title="Your role may look, but not start anything." />
      ) : (
        <>
          <Problem problem={vms.problem ?? hosts.problem} />
          <section class="card" aria-labelledby="moves-title">
            <h2 id="moves-title">Moves</h2>
            <form class="form row" onSubmit={add}>
              <label class="field">
                <span>Find VMs</span>
                <input
                  type="search"
                  value={name}
                  placeholder="a part of the name"
                  onInput={(event) => setName(event.currentTarget.value)}
                />
              </label>
              <label class="field">
                <span>VM</span>
                <select value={vm} required onChange={(event) => setVm(event.currentTarget.value)}>
                  <option value="">choose a VM</option>
                  {known.map((each) => (
                    <option key={`${each.uuid} ${each.vm}`} value={each.vm}>
                      {printable(each.vm)} on {printable(each.host)}
                    </option>
                  ))}
                </select>
              </label>
              <label class="field">
                <span>To</span>
                <select value={to} required onChange={(event) => setTo(event.currentTarget.value)}>
                  <option value="">choose a host</option>
                  {places.map(({ host, cordoned }) => (
                    <option key={host} value={host}>
                      {printable(host)}
                      {cordoned ? ' (cordoned)' : ''}
                    </option>
                  ))}
                </select>
              </label>
              <button type="submit" class="button">
                Add the move
              </button>
            </form>
            {moves.length === 0 ? (
              <Empty title="No move yet." />
            ) : (
              <ul class="chips" aria-label="Moves to be made">
                {moves.map((move) => (
                  <li key={move.vm} class="chip">
                    {printable(move.vm)} <span aria-hidden="true">→</span>
                    <span class="unseen"> to </span> {printable(move.to)}
                    <button
                      type="button"
                      class="chip-x"
                      aria-label={`Remove the move of ${move.vm}`}
                      onClick={() => setMoves(moves.filter((each) => each !== move))}
                    >
                      ×
                    </button>
                  </li>
                ))}
              </ul>
            )}
            <PolicyFields draft={draft} fallback="rebalance" onChange={setDraft} />
          </section>
          <PreviewAndStart kind="loadBalance" body={body} title={`Move ${counted(moves.length, 'VM')}?`} />
        </>
      )}
    </>
  );
}
