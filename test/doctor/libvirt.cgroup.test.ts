/** Doctor and a real libvirtd, in namespaces of its own: reached over its socket and over TCP, and stopped. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { reportSchema } from '../../src/doctor/finding.ts';
import { inPath } from '../../src/runtime/in-path.ts';
import type { Command } from '../cli/spawn.ts';
import { describeWith } from '../support/needs.ts';
import { DoctorPlace, fleetText, found, libvirtHost, verdictOf, wrong } from './place.ts';

const lacking = ['libvirtd', 'virsh'].filter((name) => inPath(name, process.env) === undefined);
if (lacking.length > 0)
  console.warn(`\n*** SKIPPED, NOT TESTED: doctor on a real libvirtd (no ${lacking.join(', ')}) ***\n`);

/** Its own /run, /var/lib/libvirt and /etc/libvirt; then the doctor beside it, then what is given, then the doctor once more. */
const SCRIPT = `set -e
work=$1; shift
mount -t tmpfs none /run
for directory in lib cache log; do test -d /var/$directory/libvirt && mount -t tmpfs none /var/$directory/libvirt; done
cp -r /etc/libvirt/. "$work/etc" && mount --bind "$work/etc" /etc/libvirt
printf 'listen_tls = 0\\nlisten_tcp = 1\\nauth_tcp = "none"\\ntcp_port = "16599"\\nauth_unix_rw = "none"\\nlisten_addr = "127.0.0.1"\\nunix_sock_dir = "%s/sock"\\n' "$work" >/etc/libvirt/libvirtd.conf
echo 'security_driver = "none"' >/etc/libvirt/qemu.conf
ip link set lo up
libvirtd -l -p /run/libvirtd.pid >"$work/libvirtd.log" 2>&1 &
daemon=$!
trap 'kill -KILL $daemon 2>/dev/null || true' EXIT
for i in $(seq 100); do virsh -c "qemu+unix:///system?socket=$work/sock/libvirt-sock" version >/dev/null 2>&1 && break; sleep 0.1; done
"$@" || true
kill -KILL $daemon && wait $daemon || true
"$@"
`;

describe.skipIf(lacking.length > 0)('libvirtd', () => {
  describeWith(['root', 'qemu', 'cgroup'], 'real', () => {
    let place: DoctorPlace;
    beforeEach(() => {
      place = new DoctorPlace();
      for (const name of ['etc', 'sock']) mkdirSync(place.path(name));
    });
    afterEach(() => place.close());

    test('that runs is found well, with its versions and what its machine has; one that does not is a fault', async () => {
      const socket = `qemu+unix:///system?socket=${place.path('sock')}/libvirt-sock`;
      const local = libvirtHost('a', socket, '127.0.0.1')
        .replace(' } }', ' }')
        .replace(/uri: "[^"]*"/, `uri: "${socket}", peerUri: "qemu+tcp://127.0.0.1:16599/system"`);
      place.fleet(fleetText([local, libvirtHost('b', 'qemu+tcp://127.0.0.1:16599/system', '127.0.0.1')]));
      writeFileSync(place.path('script'), SCRIPT);
      const within = [
        'unshare',
        '--mount',
        '--net',
        '--propagation',
        'private',
        'bash',
        place.path('script'),
        place.directory,
      ];
      const command: Command = place.command(['doctor', '-o', 'json'], {}, within);
      const { stdout, stderr, code } = await command.ended;
      const [running, stopped] = stdout
        .trim()
        .split('\n')
        .map((line) => reportSchema.parse(JSON.parse(line)));
      if (running === undefined || stopped === undefined) throw new Error(`${stdout}${stderr}`);
      expect(wrong(running)).toEqual([]);
      expect(found(running, 'libvirt.daemon', 'a').found).toMatch(/libvirtd \d+\.\d+\.\d+, QEMU \d+\.\d+\.\d+$/);
      expect(found(running, 'host.size', 'b').found).toMatch(/the machine has .*GiB and \d+ cpus/);
      expect(verdictOf(running, 'libvirt.peer', 'a -> b')).toBe('ok');
      expect(verdictOf(running, 'network.port', 'a -> b')).toBe('ok');
      expect(code).toBe(1);
      expect(found(stopped, 'libvirt.daemon', 'a')).toMatchObject({
        verdict: 'fault',
        remedy: expect.stringContaining('systemctl start libvirtd'),
      });
      expect(found(stopped, 'libvirt.daemon', 'b').found).toContain('Connection refused');
      expect(found(stopped, 'libvirt.peer', 'a -> b')).toMatchObject({ verdict: 'fault' });
    });
  });
});
