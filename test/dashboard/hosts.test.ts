import { describe, expect, it } from 'vitest';
import { findHosts, type HostFacts, sortedBy } from '../../src/dashboard/lib/hosts.ts';

function host(name: string, over: Partial<HostFacts> = {}): HostFacts {
  const rates = { capacity: 100, counted: 0 };
  return {
    host: name,
    runningVms: 0,
    memoryBytes: 10,
    memoryUsedBytes: 0,
    egress: rates,
    ingress: rates,
    served: true,
    cordoned: false,
    down: false,
    ...over,
  };
}
const hosts = [
  host('node-10', { memoryUsedBytes: 9 }),
  host('node-2', { cordoned: true, egress: { capacity: 100, counted: 50 } }),
  host('rack-1', { served: false, memoryBytes: 0 }),
];
const names = (found: readonly HostFacts[]) => found.map((each) => each.host);

describe('finding and sorting hosts', () => {
  it('numbers in names are numbers; figures begin with the largest; a host without memory breaks nothing', () => {
    expect(names(findHosts(hosts, '', { by: 'host', descending: false }))).toEqual(['node-2', 'node-10', 'rack-1']);
    expect(names(findHosts(hosts, '', { by: 'memory', descending: true }))[0]).toBe('node-10');
    expect(names(findHosts(hosts, '', { by: 'egress', descending: true }))[0]).toBe('node-2');
  });

  it('every word must be in the name or begin a state', () => {
    const find = (text: string) => names(findHosts(hosts, text, { by: 'host', descending: false }));
    expect(find('NODE cord')).toEqual(['node-2']);
    expect(find('unserved')).toEqual(['rack-1']);
    expect(find('node rack')).toEqual([]);
  });

  it('the same column again turns the order round', () => {
    const byMemory = sortedBy({ by: 'host', descending: false }, 'memory', false);
    expect(byMemory).toEqual({ by: 'memory', descending: true });
    expect(sortedBy(byMemory, 'memory', false)).toEqual({ by: 'memory', descending: false });
  });
});
