/** The ids of operations: `ev-mfz3k2a1-9c41d0`. They say what it is and when it was asked for. */

/** Holds no `:` and is no integer (BullMQ job ids). `atMs`: real time; `random`: hex digits that make it the only one. */
export function operationId(kind: 'ev' | 'lb', atMs: number, random: string): string {
  return `${kind}-${atMs.toString(36)}-${random}`;
}

/** Real time at which the operation was asked for, ms since 1970; 0 for an id of another form. */
export function askedAtMs(id: string): number {
  const [, text] = /^[a-z]+-([0-9a-z]+)-[0-9a-f]+$/.exec(id) ?? [];
  const atMs = text === undefined ? Number.NaN : Number.parseInt(text, 36);
  return Number.isSafeInteger(atMs) ? atMs : 0;
}

/** Newest first. Those whose ids do not say it stay as they stand, behind all others. */
export function newestFirst(one: string, other: string): number {
  const [at, otherAt] = [askedAtMs(one), askedAtMs(other)];
  if (at !== otherAt) return otherAt - at;
  return at === 0 || one === other ? 0 : one < other ? 1 : -1;
}
