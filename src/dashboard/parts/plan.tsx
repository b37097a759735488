/** A plan before it is carried out: what moves where and why, and what stays. */
import { counted, printable } from '../lib/words.ts';
import type { Plan } from '../net/types.ts';
import { Empty, Notes } from './small.tsx';
import { Table } from './table.tsx';

export function PlanView({
  plan,
}: {
  readonly plan: Omit<Plan, 'warnings'> & { readonly warnings?: readonly string[] };
}) {
  const { moves, shutdowns, skipped, blocked } = plan;
  const nothing = moves.length + shutdowns.length + skipped.length + blocked.length === 0;
  if (nothing) return <Empty title="Nothing would move: no running or paused VM is there." />;
  return (
    <div class="plan">
      <p class="plan-sum" aria-live="polite">
        {[
          `${counted(moves.length, 'VM')} would move`,
          ...(shutdowns.length > 0 ? [`${shutdowns.length} be shut down`] : []),
          ...(skipped.length > 0 ? [`${skipped.length} skipped`] : []),
          ...(blocked.length > 0 ? [`${blocked.length} blocked`] : []),
        ].join(', ')}
      </p>
      {moves.length > 0 && (
        <Table
          caption="Planned moves, in their order"
          rows={moves.map((move, index) => ({ ...move, place: index + 1 }))}
          keyOf={({ vm }) => vm}
          columns={[
            { key: 'place', title: '#', align: 'right', cell: ({ place }) => place },
            { key: 'vm', title: 'VM', heads: true, cell: ({ vm }) => printable(vm) },
            { key: 'from', title: 'From', class: 'name', cell: ({ source }) => printable(source) },
            { key: 'to', title: 'To', class: 'name', cell: ({ destination }) => printable(destination) },
            { key: 'why', title: 'Why', class: 'prose', cell: ({ why }) => printable(why) },
          ]}
        />
      )}
      <Notes
        title="Would be shut down when the others have left"
        lines={shutdowns.map(({ vm, host, why }) => `${vm} on ${host}: ${why}`)}
      />
      <Notes
        title="Skipped: left where they are on purpose"
        lines={skipped.map(({ vm, reason }) => `${vm}: ${reason}`)}
      />
      <Notes title="Blocked: cannot be moved" tone="bad" lines={blocked.map(({ vm, reason }) => `${vm}: ${reason}`)} />
      <Notes title="Note" lines={plan.warnings ?? []} />
    </div>
  );
}
