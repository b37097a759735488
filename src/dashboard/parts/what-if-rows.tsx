/** Every aggression in a table, those that come to the same in one row, as the command line shows them. */
import { grouped, keepsText, whatIfFigures } from '../../domain/what-if-words.ts';
import type { WhatIfRow } from '../lib/what-if.ts';
import type { WhatIf } from '../net/types.ts';
import { Table } from './table.tsx';

export function Rows({
  answer,
  selected,
  onSelect,
}: {
  readonly answer: WhatIf;
  readonly selected: WhatIfRow;
  readonly onSelect: (row: WhatIfRow) => void;
}) {
  const shown = grouped(answer.rows).map((group) => ({ ...group, figures: whatIfFigures(group.row, answer.policy) }));
  return (
    <Table
      caption="What each aggression would cost"
      rows={shown}
      keyOf={({ from }) => String(from)}
      selected={({ from, to }) => holds(selected.aggression, from, to)}
      columns={[
        {
          key: 'aggression',
          title: 'Aggression',
          heads: true,
          cell: ({ from, to, chosen, row }) =>
            from === null ? (
              'never throttled'
            ) : (
              <>
                <button
                  type="button"
                  class="link-button"
                  aria-pressed={holds(selected.aggression, from, to)}
                  onClick={() => onSelect(row)}
                >
                  {from === to ? from : `${from}..${to}`}
                </button>
                {chosen && <span class="sub-inline"> policy</span>}
              </>
            ),
        },
        { key: 'total', title: 'Total', cell: ({ figures }) => figures.total },
        { key: 'downtime', title: 'Downtime', cell: ({ figures }) => figures.downtime },
        { key: 'mean', title: 'Mean CPU', align: 'right', cell: ({ figures }) => figures.meanShare },
        { key: 'least', title: 'Least', align: 'right', cell: ({ figures }) => figures.minShare },
        { key: 'harm', title: 'Harm (CPU time)', cell: ({ figures }) => figures.harm },
        { key: 'keeps', title: 'Keeps', class: 'prose', cell: ({ row }) => keepsText(row) },
      ]}
    />
  );
}

function holds(aggression: number | null, from: number | null, to: number | null): boolean {
  return aggression !== null && from !== null && to !== null && aggression >= from && aggression <= to;
}
