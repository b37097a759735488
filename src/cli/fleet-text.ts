/** A simulated fleet's file as a small table: what runs where before anything happens. Pure. */
import type { Fleet } from '../domain/fleet.ts';
import { formatRate, formatSize } from '../domain/units.ts';
import { tableLines } from './table.ts';
import { counted, type Paint, printable } from './text.ts';

export function fleetLines(fleet: Fleet, columns: number, paint: Paint): string[] {
  const rows = fleet.hosts.map((host) => {
    // Other drivers' VMs are not in the file; their hosts are asked.
    const vms = host.driver === 'simulated' ? host.simulated.vms : [];
    // A guest that dirties half of what its host's link carries takes long to follow: that one is worth watching.
    const fastest = (vm: (typeof vms)[number]): number =>
      Math.max(vm.dirtyRate, ...(vm.phases ?? []).map((phase) => phase.dirtyRate));
    const names = vms.map((vm) => `${printable(vm.name)}${fastest(vm) * 2 >= host.egress ? '*' : ''}`);
    const used = vms.reduce((sum, vm) => sum + vm.memory, 0);
    return {
      vms: vms.length,
      busy: names.filter((name) => name.endsWith('*')).length,
      cells: [
        { text: printable(host.name) },
        { text: `${formatSize(used)} of ${formatSize(host.memory)}` },
        { text: formatRate(host.egress) },
        { text: String(vms.length) },
        { text: names.join(' ') },
      ],
    };
  });
  const vms = rows.reduce((sum, row) => sum + row.vms, 0);
  const busy = rows.reduce((sum, row) => sum + row.busy, 0);
  const { speed } = fleet.simulation;
  const pace = speed === 1 ? '' : `. Time runs ${speed} times as fast there`;
  return [
    `A simulated fleet: ${counted(vms, 'VM')} on ${counted(fleet.hosts.length, 'host')}, ${busy} of them busy (*)${pace}`,
    '',
    ...tableLines(
      [
        { title: 'HOST', shrinkTo: 6 },
        { title: 'MEMORY', align: 'right', dropFirst: 2 },
        { title: 'EGRESS', align: 'right', dropFirst: 1 },
        { title: 'VMS', align: 'right' },
        { title: 'NAMES', shrinkTo: 10 },
      ],
      rows.map((row) => row.cells),
      columns,
      paint,
    ),
  ];
}
