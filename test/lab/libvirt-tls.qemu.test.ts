/** Guests' memory encrypted on its way, where the fleet file says so: libvirt's migration certificates, made for this test. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { LibvirtPlace } from './libvirt-place.ts';
import { resultOf } from './results.ts';

const VM = 'mild-1';
const LIMIT_MS = 240_000;

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis', 'libvirt'], 'libvirt hosts with tls', () => {
  let place: LibvirtPlace;
  beforeEach(() => {
    place = new LibvirtPlace();
  });
  afterEach(() => place.close());

  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { stdio: 'ignore' });
  };

  /** A certificate for each host's address, of an authority of this test's own; the daemons are told and started again. */
  async function certify(): Promise<void> {
    const ca = join(place.home, 'ca');
    mkdirSync(ca);
    const [caKey, caCert] = [join(ca, 'key.pem'), join(ca, 'cert.pem')];
    const anew = (name: string): string[] => ['req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${name}`];
    openssl(...anew('an authority'), '-x509', '-days', '2', '-keyout', caKey, '-out', caCert);
    for (const host of place.manifest.hosts) {
      const pki = join(host.runDir, 'pki');
      mkdirSync(pki);
      const [key, request, cert] = [
        join(pki, 'server-key.pem'),
        join(pki, 'request.pem'),
        join(pki, 'server-cert.pem'),
      ];
      openssl(...anew(host.name), '-keyout', key, '-out', request);
      const extensions = join(pki, 'extensions');
      writeFileSync(extensions, `subjectAltName=IP:${host.migrationAddress}\nextendedKeyUsage=serverAuth,clientAuth\n`);
      const sign = ['-CA', caCert, '-CAkey', caKey, '-CAcreateserial', '-days', '2', '-extfile', extensions];
      openssl('x509', '-req', '-in', request, '-out', cert, ...sign);
      writeFileSync(join(pki, 'ca-cert.pem'), readFileSync(caCert));
      for (const part of ['key', 'cert']) {
        writeFileSync(join(pki, `client-${part}.pem`), readFileSync(join(pki, `server-${part}.pem`)));
      }
      appendFileSync(join(host.runDir, 'etc', 'qemu.conf'), `migrate_tls_x509_cert_dir = "${pki}"\n`);
      await place.endDaemon(host.name);
      await place.startDaemon(host.name);
    }
  }

  test(
    'send nothing in the clear',
    async () => {
      await place.libvirtLab({ profiles: ['mild'], egressBytesPerSec: 20 * 2 ** 20 });
      await certify();
      const path = join(place.home, 'tls.yaml');
      const fleet = parse(readFileSync(join(place.home, 'fleet.yaml'), 'utf8')) as {
        hosts: { libvirt: { tls?: boolean } }[];
      };
      for (const { libvirt } of fleet.hosts) libvirt.tls = true;
      writeFileSync(path, stringify(fleet));
      const over = { HOSTEVAC_FLEET: path };
      const up = place.startWith(over, 'up', '--port', '0');
      await up.says(/^http:\/\/\S+\n/, 60_000);

      const evacuating = place.startWith(over, 'evacuate', 'lab-a', '--wait', '-o', 'json').ended;
      const ask = '{"execute":"query-migrate-parameters"}';
      const credentials = async (): Promise<string> => {
        const job = await place.virsh('lab-a', 'domjobinfo', VM).catch(() => '');
        return /Outgoing/.test(job) ? place.virsh('lab-a', 'qemu-monitor-command', VM, ask).catch(() => '') : '';
      };
      await until(async () => /"tls-creds":"[^"]+"/.test(await credentials()), 60_000, 'a migration with TLS');
      const ended = await evacuating;
      expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
      expect(resultOf(ended)).toMatchObject({ state: 'done', empty: true });
      expect(await place.domains()).toEqual([`lab-b ${VM} running`]);
      expect((await place.memoryOf('lab-b', VM)).faults).toEqual([]);
    },
    LIMIT_MS,
  );
});
