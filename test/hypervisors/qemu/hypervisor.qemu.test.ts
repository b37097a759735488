/** What every hypervisor promises, on real QEMU. */
import { until } from '../../support/condition.ts';
import { describeWith } from '../../support/needs.ts';
import { hypervisorBehaviour } from '../hypervisor-behaviour.ts';
import { Hosts } from './hosts.ts';

describeWith(['qemu'], 'bare QEMU', () => {
  hypervisorBehaviour('qemu', async () => {
    // `huge` is larger than what any of them has for VMs; it was started by hand, which asks nobody.
    const hosts = new Hosts(['a', 'b', 'c'], 80);
    try {
      await Promise.all([
        hosts.byHand('a', { name: 'quick' }),
        hosts.byHand('a', { name: 'endless', busy: true }),
        hosts.byHand('a', { name: 'huge', memoryMib: 96 }),
      ]);
    } catch (error) {
      await hosts.close();
      throw error;
    }
    return { one: hosts.adapter(), other: hosts.adapter(), until, close: () => hosts.close() };
  });
});
