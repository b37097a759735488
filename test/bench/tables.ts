/** The tables of the benchmark, as Markdown and for a terminal. Pure. */
import { CONTENDERS } from './contenders/all.ts';
import { FLOOR } from './contenders/ours.ts';
import { alignedTable, markdownTable } from './markdown.ts';
import { leastOf, pledges } from './pledges.ts';
import type { Result } from './results.ts';
import { type Comparison, compare, predictionErrors, type Spread, type Summary, summarise } from './summary.ts';

const MIB = 2 ** 20;
const OURS: ReadonlySet<string> = new Set(CONTENDERS.filter(({ ours }) => ours).map(({ name }) => name));

const HEADER = ['contender', 'done', 'total s', 'harm CPU-s', 'longest stretch ms', 'downtime ms', 'sent MiB'];

/** What the profile's rows say, without the names of the columns. */
function rowsOf(summaries: readonly Summary[]): string[][] {
  return summaries.map((one) => [
    one.contender,
    `${one.done}/${one.runs}${one.broken > 0 ? ` VOID: memory broken in ${one.broken}` : ''}${one.disturbed > 0 ? ` (${one.disturbed} disturbed)` : ''}`,
    spread(one.totalMs, 1_000, 1),
    spread(one.harmCpuMs, 1_000, 2),
    `${spread(one.longestStretchMs, 1, 0)}${one.withinMaxStall ? '' : ' !'}`,
    spread(one.downtimeMs, 1, 0),
    spread(one.transferredBytes, MIB, 0),
  ]);
}

/** `median (least..most)`, in units of `unit`. */
function spread(value: Spread | null, unit: number, digits: number): string {
  if (value === null) return '-';
  const text = (one: number): string => (Math.abs(one / unit) < 0.5 * 10 ** -digits ? 0 : one / unit).toFixed(digits);
  return `${text(value.median)} (${text(value.least)}..${text(value.most)})`;
}

export function terminalTable(results: readonly Result[]): string {
  const summaries = summarise(results);
  return profilesOf(summaries)
    .map((profile) => {
      const rows = rowsOf(summaries.filter((one) => one.profile === profile));
      return `\n${profile}\n${alignedTable(HEADER, rows)}`;
    })
    .join('');
}

/** What even perfect knowledge could not have spared the guest. */
function leastLine(results: readonly Result[], profile: string): string {
  const least = leastOf(results, profile);
  if (least === null) return '';
  return `Least possible harm at a floor of ${Math.round(FLOOR * 100)}%, by the oracle: ${(least / 1_000).toFixed(2)} CPU-s.\n\n`;
}

/** Ours against all others, profile by profile. */
export function comparisonsOf(summaries: readonly Summary[]): Comparison[] {
  return summaries
    .filter(({ contender }) => OURS.has(contender))
    .flatMap((ours) =>
      summaries
        .filter(({ profile, contender }) => profile === ours.profile && !OURS.has(contender))
        .map((peer) => compare(ours, peer)),
    );
}

const LEGEND = `Medians, and the least and the most of all runs. *Total*: from \`migrate\` to completed, as QEMU counts. *Harm*: CPU time that
the guest would have used and did not get, its downtime included, until it had its CPU back. *Longest stretch*: the longest
time in which a busy vCPU got nothing at all, by samples; \`!\`: longer than the user allows. A run that was not done
within the limit was cancelled; what it has cost until then is its harm.`;

export function markdown(results: readonly Result[]): string {
  const summaries = summarise(results);
  const comparisons = comparisonsOf(summaries);
  const [first] = results;
  const sections = profilesOf(summaries).map((profile) => {
    const own = summaries.filter((one) => one.profile === profile);
    return `## ${profile}\n\n${markdownTable(HEADER, rowsOf(own))}\n${leastLine(results, profile)}${verdicts(comparisons.filter((one) => one.profile === profile))}`;
  });
  return `# Convergence

Written by \`npm run bench:convergence -- --report-only\`; how it is measured: [0022](../decisions/0022-how-convergence-is-measured.md).

${first === undefined ? 'Nothing has been measured.' : conditions(results, first)}

${LEGEND}

${promised(results)}
${sections.join('\n')}${predictions(results)}`;
}

function promised(results: readonly Result[]): string {
  const peers = CONTENDERS.filter(({ ours }) => !ours).map(({ name }) => name);
  const rows = pledges(results, peers).map(({ what, measured, holds }) => [
    what,
    holds === null ? 'not measured' : measured,
    holds === null ? '' : holds ? 'yes' : '**no**',
  ]);
  return `## What is said, and what was measured\n\n${markdownTable(['', 'measured', 'holds'], rows)}`;
}

function conditions(results: readonly Result[], { terms, machine }: Result): string {
  const times = results.map(({ at }) => at).sort();
  const others = results.map(({ othersCores }) => othersCores).sort((one, other) => one - other);
  const resolution = Math.max(...results.map(({ resolutionMs }) => resolutionMs.median));
  const disturbed = results.filter((one) => one.disturbed).length;
  return `${results.length} runs, ${times[0]?.slice(0, 10)} to ${times.at(-1)?.slice(0, 10)}, QEMU ${machine.qemu} (TCG) on ${machine.cpus} cores; ${terms.bandwidthBytesPerSec / MIB} MiB/s, max stall ${terms.maxStallMs} ms, limit ${terms.limitMs / 1_000} s. Samples every ${resolution.toFixed(0)} ms.
Others used ${(others[Math.floor(others.length / 2)] ?? 0).toFixed(2)} cores at the median, ${(others.at(-1) ?? 0).toFixed(2)} at the most; ${disturbed} runs count as disturbed.`;
}

function predictions(results: readonly Result[]): string {
  const errors = predictionErrors(results);
  if (errors.length === 0) return '';
  const header = ['profile', 'contender', 'runs', 'total off by %', 'harm off by CPU-s', 'total within', 'harm within'];
  const rows = errors.map((one) => [
    one.profile,
    one.contender,
    String(one.runs),
    spread(one.totalPart, 0.01, 0),
    spread(one.harmCpuMs, 1_000, 2),
    `${one.totalWithin}/${one.runs}`,
    `${one.harmWithin}/${one.runs}`,
  ]);
  return `\n## Predictions before the start\n\nHow far what was measured lay from the prediction (sizes), and how often within its interval of nine in ten.\n\n${markdownTable(header, rows)}`;
}

function verdicts(comparisons: readonly Comparison[]): string {
  const ours = [...new Set(comparisons.map((one) => one.ours))];
  const peers = [...new Set(comparisons.map(({ peer }) => peer))];
  if (ours.length === 0 || peers.length === 0) return '';
  const cell = (our: string, peer: string): string => {
    const found = comparisons.find((one) => one.ours === our && one.peer === peer);
    if (found === undefined) return '';
    const text = (value: number | null): string => (value === null ? '-' : value.toFixed(2));
    return `${text(found.harmRatio)} / ${text(found.totalRatio)} ${WORDS[found.verdict]}`;
  };
  const rows = peers.map((peer) => [peer, ...ours.map((our) => cell(our, peer))]);
  return `Ours by theirs, harm / total, and who did better:\n\n${markdownTable(['against', ...ours], rows)}`;
}

const WORDS: Readonly<Record<Comparison['verdict'], string>> = {
  ours: '**ours**',
  peer: '**theirs**',
  trade: 'either',
  equal: 'equal',
  none: 'neither',
};

function profilesOf(summaries: readonly Summary[]): string[] {
  return [...new Set(summaries.map(({ profile }) => profile))];
}
