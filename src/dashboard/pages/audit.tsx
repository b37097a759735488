/** Who did what: every change that was asked for, newest first. For admins. */
import { dateText, printable } from '../lib/words.ts';
import { useMay } from '../net/hooks.ts';
import type { AuditPage as AuditAnswer } from '../net/types.ts';
import { MoreButton, usePaged } from '../parts/pages.tsx';
import { Empty, Loading, PageHead, Problem } from '../parts/small.tsx';
import { Table } from '../parts/table.tsx';

type Entry = AuditAnswer['items'][number];

export function AuditPage() {
  const isAdmin = useMay('admin');
  return (
    <>
      <PageHead title="Audit">
        <p class="lead">Every change that somebody asked for, by the API or the command line.</p>
      </PageHead>
      {isAdmin ? <Entries /> : <Empty title="Only admins see who did what." />}
    </>
  );
}

function Entries() {
  const { items, problem, more } = usePaged<Entry>('/v1/audit?limit=50', (entry) => JSON.stringify(entry), {
    everyMs: 10_000,
  });
  if (items === null) return problem === null ? <Loading what="the audit log" /> : <Problem problem={problem} />;
  if (items.length === 0) return <Empty title="Nothing was changed yet." />;
  return (
    <>
      <Table
        caption="Changes, newest first"
        rows={items}
        keyOf={(entry) => JSON.stringify(entry)}
        columns={[
          { key: 'at', title: 'When', cell: ({ atMs }) => dateText(atMs) },
          { key: 'who', title: 'Who', heads: true, cell: ({ actor, role }) => `${printable(actor)} (${role})` },
          { key: 'via', title: 'By', cell: ({ via }) => via },
          { key: 'action', title: 'Did', cell: ({ action }) => printable(action) },
          { key: 'target', title: 'To', cell: ({ target }) => (target === null ? '–' : printable(target)) },
          { key: 'outcome', title: 'Outcome', cell: ({ outcome }) => printable(outcome) },
          {
            key: 'detail',
            title: 'Detail',
            class: 'prose',
            cell: ({ detail }) => (detail === null ? '' : printable(String(detail))),
          },
        ]}
      />
      <MoreButton more={more}>Older entries</MoreButton>
    </>
  );
}
