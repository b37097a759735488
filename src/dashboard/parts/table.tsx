/** A table that is cards on a phone: each cell carries its column's name there. */
import type { ComponentChildren } from 'preact';
import type { Sorting } from '../lib/hosts.ts';

export interface Column<Row, Key extends string> {
  readonly key: Key;
  readonly title: string;
  readonly cell: (row: Row) => ComponentChildren;
  readonly align?: 'right';
  readonly sortable?: boolean;
  /** The cell that names the row. */
  readonly heads?: boolean;
  readonly class?: string;
}

export function Table<Row, Key extends string>({
  caption,
  columns,
  rows,
  keyOf,
  sorting,
  onSort,
  selected,
}: {
  /** Says what the table is; only read aloud. */
  readonly caption: string;
  readonly columns: readonly Column<Row, Key>[];
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
  readonly sorting?: Sorting<string>;
  readonly onSort?: (key: Key) => void;
  readonly selected?: (row: Row) => boolean;
}) {
  return (
    <table class="table">
      <caption class="unseen">{caption}</caption>
      <thead>
        <tr>
          {columns.map((column) => {
            const sorted = sorting?.by === column.key ? (sorting.descending ? 'descending' : 'ascending') : undefined;
            return (
              <th
                key={column.key}
                scope="col"
                class={column.align}
                {...(sorted === undefined ? {} : { 'aria-sort': sorted })}
              >
                {column.sortable === true ? (
                  <button type="button" class="sort" onClick={() => onSort?.(column.key)}>
                    {column.title}
                    <span class="sort-mark" aria-hidden="true">
                      {sorted === 'descending' ? '↓' : sorted === 'ascending' ? '↑' : ''}
                    </span>
                  </button>
                ) : (
                  column.title
                )}
              </th>
            );
          })}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)} class={selected?.(row) === true ? 'selected' : ''}>
            {columns.map((column) => {
              const classes = [column.align, column.class].filter((name) => name !== undefined).join(' ');
              return column.heads === true ? (
                <th key={column.key} scope="row" class={classes} data-label={column.title}>
                  {column.cell(row)}
                </th>
              ) : (
                <td key={column.key} class={classes} data-label={column.title}>
                  <div class="cell">{column.cell(row)}</div>
                </td>
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
