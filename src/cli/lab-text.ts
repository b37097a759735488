/** What `lab status` shows. Pure. */
import { formatRate } from '../domain/units.ts';
import type { CopyStatus, LabStatus } from '../lab/look.ts';
import { type TableColumn, tableLines } from './table.ts';
import { type Colour, counted, type Paint, printable } from './text.ts';

const COLUMNS: readonly TableColumn[] = [
  { title: 'GUEST' },
  { title: 'PROFILE', dropFirst: 1 },
  { title: 'HOST' },
  { title: 'STATE' },
  { title: 'WRITES', align: 'right' },
  { title: 'PAGES WRITTEN', align: 'right' },
  { title: 'MEMORY', shrinkTo: 10 },
];

export function labStatusLines(status: LabStatus, columns: number, paint: Paint): string[] {
  const { manifest, copies, silent, missing, doubled, serving } = status;
  const rows = [...copies]
    .sort((a, b) => (a.guest < b.guest ? -1 : a.guest > b.guest ? 1 : a.host < b.host ? -1 : 1))
    .map((copy) => [
      { text: printable(copy.guest) },
      { text: copy.profile },
      { text: copy.host },
      { text: copy.state, colour: colourOf(copy.state) },
      { text: copy.rateBytesPerSec === null ? '-' : formatRate(copy.rateBytesPerSec) },
      { text: copy.progress === null ? '-' : String(copy.progress) },
      memoryCell(copy),
    ]);
  const hosts = manifest.hosts.map(({ name }) => name).join(', ');
  const served = serving ? `served by hostevac up (${manifest.up?.process.pid})` : 'no hostevac up serves it';
  return [
    `hosts ${hosts}; ${counted(manifest.guests.length, 'guest')}; ${served}`,
    '',
    ...tableLines(COLUMNS, rows, columns, paint),
    ...silent.flatMap(({ host, fault }) => ['', paint('red', `${host} does not answer: ${printable(fault)}`)]),
    ...(missing.length === 0
      ? []
      : ['', paint('red', `not running anywhere${silent.length === 0 ? '' : ' that answers'}: ${missing.join(', ')}`)]),
    ...(doubled.length === 0 ? [] : ['', paint('red', `running more than once: ${doubled.join(', ')}`)]),
  ];
}

function colourOf(state: string): Colour | undefined {
  return state === 'running' ? 'green' : state === 'unreachable' ? 'red' : undefined;
}

function memoryCell({ memory, unchecked, fault }: CopyStatus): { text: string; colour?: Colour | undefined } {
  if (fault !== null) return { text: printable(fault), colour: 'red' };
  if (unchecked !== null) return { text: unchecked };
  if (memory === null) return { text: '' };
  const [first] = memory.faults;
  if (first === undefined) return { text: `whole: ${memory.pages} pages, ${memory.writes} writes`, colour: 'green' };
  return { text: `${memory.wrongPages} of ${memory.pages} pages wrong: ${first}`, colour: 'red' };
}
