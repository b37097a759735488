/** "Did you mean": the known word nearest to one that is not known. Where the words come from is the caller's business. */

/**
 * Edits between two words, where a swap of neighbours is one (`nmae`). Optimal string alignment; both words are short. More than
 * `most` is infinity: then the rest is not looked at.
 */
function editDistance(a: string, b: string, most: number): number {
  let least = 0;
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, index) => index)];
  for (let i = 1; i <= a.length; i += 1) {
    const above = rows[i - 1] ?? [];
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min((above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (above[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (rows[i - 2]?.[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    rows.push(row);
    // A swap goes over one row, never over two.
    const leastHere = Math.min(...row);
    if (least > most && leastHere > most) return Number.POSITIVE_INFINITY;
    least = leastHere;
  }
  return rows[a.length]?.[b.length] ?? 0;
}

/** Longer words than this are not compared: nobody mistypes them, and a hostile one would cost time. */
const MAX_LENGTH = 64;

/**
 * The word of `known` that `word` most likely means, or undefined when none is near: at most a third of its letters
 * differ, or one begins with the other. Case, `-` and `_` do not count.
 */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  if (word.length > MAX_LENGTH) return undefined;
  const plain = (text: string) => text.toLowerCase().replace(/[-_]/g, '');
  const given = plain(word);
  let best: { word: string; distance: number } | undefined;
  for (const candidate of known) {
    if (candidate.length > MAX_LENGTH) continue;
    const target = plain(candidate);
    const beginning = given.length >= 3 && target.length >= 3 && (target.startsWith(given) || given.startsWith(target));
    const limit = Math.max(1, Math.floor(Math.max(given.length, target.length) / 3));
    if (!beginning && Math.abs(given.length - target.length) > limit) continue;
    // One that is no nearer than another is of no use.
    const most = beginning ? Number.POSITIVE_INFINITY : Math.min(limit, (best?.distance ?? limit + 1) - 1);
    const edits = editDistance(given, target, most);
    if (edits > limit && !beginning) continue;
    const distance = beginning ? Math.min(edits, limit) : edits;
    if (best === undefined || distance < best.distance) best = { word: candidate, distance };
  }
  return best?.word;
}
