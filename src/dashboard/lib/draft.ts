/** What a person says about policy in a form, and the request's fields that it makes. Pure. */
import type { PolicyInput } from '../../domain/policy.ts';

export interface PolicyDraft {
  /** Empty: the task's own (maintenance for an evacuation, rebalance for moves). */
  readonly policy: string;
  /** null: as the policy says. */
  readonly aggression: number | null;
  readonly minCpu: string;
  readonly maxStall: string;
  readonly maxTime: string;
  readonly maxBandwidth: string;
}

export const NO_DRAFT: PolicyDraft = {
  policy: '',
  aggression: null,
  minCpu: '',
  maxStall: '',
  maxTime: '',
  maxBandwidth: '',
};

/** Only what was said. What is said wrongly goes to the server as it is: it knows best what to answer. */
export function policyFields(draft: PolicyDraft): PolicyInput {
  const { policy, aggression, minCpu, maxStall, maxTime, maxBandwidth } = draft;
  const text = (value: string): string | undefined => (value.trim() === '' ? undefined : value.trim());
  const fields: Record<string, unknown> = {
    policy: text(policy),
    aggression: aggression ?? undefined,
    minCpu: text(minCpu) === undefined ? undefined : numberOf(minCpu),
    maxStall: text(maxStall),
    maxTime: text(maxTime),
    maxBandwidth: text(maxBandwidth),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** The four requirements, as a form asks for them. */
export const REQUIREMENT_FIELDS = [
  { name: 'minCpu', label: 'Min CPU share', hint: '0.5 or 50%' },
  { name: 'maxStall', label: 'Max stall', hint: '300ms' },
  { name: 'maxTime', label: 'Max time per VM', hint: '10m' },
  { name: 'maxBandwidth', label: 'Max bandwidth', hint: '40MiB/s' },
] as const;

/** How many requirements somebody has said. */
export function ownRequirements(draft: PolicyDraft): number {
  return REQUIREMENT_FIELDS.filter(({ name }) => draft[name].trim() !== '').length;
}

/** `0.3`, `30%`; else the text itself, to be refused. */
function numberOf(text: string): number | string {
  const percent = /^\s*(\d+(?:\.\d+)?)\s*%\s*$/.exec(text)?.[1];
  if (percent !== undefined) return Number(percent) / 100;
  return Number.isFinite(Number(text)) ? Number(text) : text;
}

/** For `Idempotency-Key`: the same form sent twice is one request. Works without a secure context. */
export function freshKey(random: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>): string {
  return `dashboard-${Array.from(random(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}
