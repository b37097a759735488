/** Policies in a few words; what the presets are made of stands in src/domain/policy.ts. */
import type { Policies } from '../net/types.ts';
import { printable } from './words.ts';

export const POLICY_NAMES = {
  maintenance: { what: 'the host must be emptied', aggression: 0.5 },
  rebalance: { what: 'guests come first', aggression: 0.2 },
  emergency: { what: 'out as fast as it goes', aggression: 1 },
} as const;

export interface PolicyChoice {
  readonly name: string;
  /** A few words. */
  readonly what: string;
  readonly aggression: number;
}

/** As much of a paragraph as a list has room for. */
const WORDS = 60;

/** Those of the server; until it has answered, the presets, which every fleet has. */
export function policyChoices(known: Policies | null): PolicyChoice[] {
  const presets: Record<string, { what: string; aggression: number }> = POLICY_NAMES;
  if (known === null) return Object.entries(presets).map(([name, preset]) => ({ name, ...preset }));
  return known.items.map(({ name, what, requirements: { aggression } }) => ({
    name,
    what: Object.hasOwn(presets, name) ? (presets[name]?.what ?? '') : cut(what),
    aggression,
  }));
}

function cut(what: string): string {
  const words = printable(what);
  return words.length > WORDS ? `${words.slice(0, WORDS - 1).trimEnd()}…` : words;
}
