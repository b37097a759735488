/** The policies that every fleet has, in a few words; what each is made of stands in src/domain/policy.ts. */

export const POLICY_NAMES = {
  maintenance: { what: 'the host must be emptied', aggression: 0.5 },
  rebalance: { what: 'guests come first', aggression: 0.2 },
  emergency: { what: 'out as fast as it goes', aggression: 1 },
} as const;
