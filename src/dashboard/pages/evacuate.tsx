/** Empties a host: policy and aggression, the plan as it would be, then start. */
import { useState } from 'preact/hooks';
import { NO_DRAFT, policyFields } from '../lib/draft.ts';
import { hrefOf } from '../lib/route.ts';
import { printable } from '../lib/words.ts';
import { useMay } from '../net/hooks.ts';
import { PolicyFields, TextField } from '../parts/policy-fields.tsx';
import { PreviewAndStart } from '../parts/request.tsx';
import { Empty, PageHead } from '../parts/small.tsx';

const CHOICES = [
  ['', 'block the evacuation until somebody sees to them'],
  ['skip', 'are left where they are'],
  ['label', 'are shut down where their label says so'],
  ['shutdown', 'are shut down, last'],
] as const;

export function EvacuatePage({ host }: { readonly host: string }) {
  const mayChange = useMay('operator');
  const [draft, setDraft] = useState(NO_DRAFT);
  const [deadline, setDeadline] = useState('');
  const [others, setOthers] = useState('');
  const body = {
    host,
    ...policyFields(draft),
    ...(deadline.trim() === '' ? {} : { deadline: deadline.trim() }),
    ...(others === '' ? {} : { nonMigratable: others }),
  };
  return (
    <>
      <PageHead
        title={`Evacuate ${printable(host)}`}
        above={
          <>
            <a href="#/">Fleet</a> / <a href={hrefOf({ page: 'host', host })}>{printable(host)}</a>
          </>
        }
      >
        <p class="lead">Every VM is moved to another host; the host stays cordoned afterwards.</p>
      </PageHead>
      {!mayChange ? (
        <Empty title="Your role may look, but not start anything." />
      ) : (
        <>
          <section class="card" aria-labelledby="how-title">
            <h2 id="how-title">How</h2>
            <PolicyFields draft={draft} fallback="maintenance" onChange={setDraft} />
            <div class="form row">
              <TextField label="Deadline for all" value={deadline} hint="none; such as 2h" onInput={setDeadline} />
              <label class="field">
                <span>VMs that cannot be migrated</span>
                <select value={others} onChange={(event) => setOthers(event.currentTarget.value)}>
                  {CHOICES.map(([value, text]) => (
                    <option key={value} value={value}>
                      {text}
                    </option>
                  ))}
                </select>
              </label>
            </div>
          </section>
          <PreviewAndStart kind="evacuateNode" body={body} title={`Evacuate ${host}?`} />
        </>
      )}
    </>
  );
}
