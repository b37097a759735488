/**
 * The operator's rules: which VM may run on which host, whatever its size. Not here: room, cordons, choice of a host.
 */
import type { FleetRule } from '../domain/fleet.ts';

/** Why a rule forbids a host; `text` is for people and names the rule or the VM in the way. */
export interface RuleRefusal {
  readonly kind: 'antiAffinity' | 'pinned';
  readonly text: string;
}

/** The rules that name this VM. Filter once per VM, ask `mayRunOn` per host. */
export function rulesAbout(rules: readonly FleetRule[], vm: string): readonly FleetRule[] {
  return rules.filter((rule) => ('antiAffinity' in rule ? rule.antiAffinity : rule.pinned).includes(vm));
}

/**
 * null when the rules let the VM move to a host that is not its own. `on` says whether a VM is on that host: running
 * there, on its way there, or leaving it, because until it has left, both would be there.
 */
export function mayRunOn(
  vm: string,
  host: string,
  { rules, on }: { readonly rules: readonly FleetRule[]; readonly on: (vm: string) => boolean },
): RuleRefusal | null {
  for (const rule of rules) {
    if ('antiAffinity' in rule) {
      if (!rule.antiAffinity.includes(vm)) continue;
      const other = rule.antiAffinity.find((name) => name !== vm && on(name));
      if (other !== undefined) return { kind: 'antiAffinity', text: `anti-affinity with ${other}` };
    } else if (rule.pinned.includes(vm) && !(rule.hosts?.includes(host) ?? false)) {
      return { kind: 'pinned', text: describePin(rule) };
    }
  }
  return null;
}

/**
 * Where its pins let it go: null for anywhere, else the hosts that all of them name (none for a VM that must stay),
 * with the rules in words.
 */
export function pinOf(
  vm: string,
  rules: readonly FleetRule[],
): { readonly hosts: readonly string[]; readonly text: string } | null {
  let hosts: readonly string[] | null = null;
  const texts: string[] = [];
  for (const rule of rules) {
    if (!('pinned' in rule) || !rule.pinned.includes(vm)) continue;
    const named: readonly string[] = rule.hosts ?? [];
    hosts = hosts === null ? named : hosts.filter((host) => named.includes(host));
    texts.push(describePin(rule));
  }
  return hosts === null ? null : { hosts, text: texts.join(' and ') };
}

function describePin(rule: Extract<FleetRule, { pinned: string[] }>): string {
  const to = rule.hosts === undefined ? '' : ` to ${few(rule.hosts)}`;
  return `the rule "pinned: [${few(rule.pinned)}]${to}"`;
}

/** A rule may name thousands; a message shows the first. */
function few(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown}, ... (${names.length})` : shown;
}
