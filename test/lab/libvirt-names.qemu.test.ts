/** Names that would do harm in a shell, in options, in paths, in virsh's own language or in XML: they are names. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { escapeXml } from '../../src/hypervisors/libvirt/xml.ts';
import { describeWith } from '../support/needs.ts';
import { LibvirtPlace } from './libvirt-place.ts';
import { resultOf } from './results.ts';

const LIMIT_MS = 240_000;

/** libvirt takes no `/` and no line end; the longest, of 247 bytes, is what it can still make `<name>.xml.new` of. */
const VMS = ['-rf', 'a;touch made', '$(touch made)"\'`&<x>%s\\', '..', '1', `größe ${'ü'.repeat(119)}a`];
const SOURCE = '-rf';
const DESTINATION = '../b; $(touch made) "ü"';

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis', 'libvirt'], 'hostile names', () => {
  let place: LibvirtPlace;
  beforeEach(() => {
    place = new LibvirtPlace();
  });
  afterEach(() => place.close());

  test(
    'of domains and hosts do no harm: all of them are moved, and nothing else is touched',
    async () => {
      await place.libvirtLab({ profiles: ['idle'] });
      await place.virsh('lab-a', 'autostart', 'idle-1');
      const xml = await place.virsh('lab-a', 'dumpxml', 'idle-1', '--inactive');
      for (const [index, name] of VMS.entries()) {
        const uuid = `00000000-1111-4222-8333-${String(index).padStart(12, '0')}`;
        const other = xml
          .replace(/<name>.*<\/name>/, () => `<name>${escapeXml(name)}</name>`)
          .replace(/<uuid>.*<\/uuid>/, `<uuid>${uuid}</uuid>`);
        const file = join(place.home, 'domain.xml');
        writeFileSync(file, other);
        await place.virsh('lab-a', 'create', file);
      }
      // Hosts are called what the fleet file calls them.
      const path = join(place.home, 'hostile.yaml');
      const fleet = parse(readFileSync(join(place.home, 'fleet.yaml'), 'utf8')) as {
        hosts: { name: string; cpus: number; memory: string }[];
      };
      for (const [index, host] of fleet.hosts.entries()) {
        host.name = index === 0 ? SOURCE : DESTINATION;
        host.cpus = 32;
        host.memory = '8GiB';
      }
      writeFileSync(path, stringify(fleet));
      const over = { HOSTEVAC_FLEET: path };
      const up = place.startWith(over, 'up', '--port', '0');
      await up.says(/^http:\/\/\S+\n/, 60_000);

      const ended = await place.startWith(over, 'evacuate', '--wait', '-o', 'json', '--', SOURCE).ended;
      expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
      const result = resultOf(ended);
      expect(result.state).toBe('done');
      expect(result.moves.map(({ vm }) => vm).sort()).toEqual([...VMS, 'idle-1'].sort());
      const listed = async (host: string): Promise<string[]> =>
        (await place.virsh(host, 'list', '--all', '--name'))
          .split('\n')
          .filter((line) => line !== '')
          .sort();
      expect(await listed('lab-b')).toEqual([...VMS, 'idle-1'].sort());
      expect(await listed('lab-a')).toEqual([]);
      expect((await place.virsh('lab-b', 'list', '--name', '--state-running')).trim().split('\n')).toHaveLength(
        VMS.length + 1,
      );
      for (const folder of [place.home, process.cwd(), '/']) expect(existsSync(join(folder, 'made'))).toBe(false);
    },
    LIMIT_MS,
  );
});
