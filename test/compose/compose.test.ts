/** The container files keep what they promise: least rights, versions that are pinned, files that are there. */
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { composeFile, optionsOf, pathOf, textOf } from './compose-file.ts';

const file = composeFile({ HOSTEVAC_REDIS_PASSWORD: 'cafe' });
const services = Object.entries(file.services);

describe('docker-compose.yml', () => {
  it.each(services)(
    '%s runs with least rights, from a pinned version, and is asked for its health',
    (_name, service) => {
      expect(service.image).toMatch(/^[a-z/]+:v?\d+\.\d+\.\d+(-[a-z]+)?$/);
      expect(service.user).toMatch(/^[1-9]\d*:[1-9]\d*$/);
      expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] });
      expect(service.tmpfs[0]).toMatch(/^\/tmp:/);
      expect(service.healthcheck.test[0]).toMatch(/^CMD/);
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
        expect([Object.hasOwn(file.services, other), condition]).toEqual([true, 'service_healthy']);
      }
      for (const network of service.networks) expect(file.networks).toHaveProperty(network);
      for (const { source } of service.configs ?? []) expect(file.configs).toHaveProperty(source);
      for (const { source } of service.secrets ?? []) expect(file.secrets).toHaveProperty(source);
      for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    },
  );

  it('Redis is durable, evicts nothing, wants a password, and is reached from inside only', () => {
    const { redis } = file.services;
    const options = optionsOf(redis?.command ?? []);
    expect(Object.fromEntries(options)).toMatchObject({
      '--appendonly': 'yes',
      '--appendfsync': 'always',
      '--maxmemory-policy': 'noeviction',
      '--requirepass': 'cafe',
    });
    expect(redis?.ports).toBeUndefined();
    expect(redis?.networks).toEqual(['inside']);
    expect(file.networks['inside']).toEqual({ internal: true });
    expect(() => composeFile({})).toThrow('HOSTEVAC_REDIS_PASSWORD is not set');
  });

  it('what it mounts is there, and the workers together serve every host of its fleet', () => {
    for (const { file: path } of Object.values(file.configs))
      expect([path, existsSync(pathOf(path))]).toEqual([path, true]);
    const path = file.configs['fleet']?.file ?? '';
    const fleet = parseFleet(textOf(path), { format: 'yaml', name: path });
    const served = services.flatMap(([, { command }]) => optionsOf(command).get('--hosts')?.split(',') ?? []);
    expect(served.sort()).toEqual(fleet.hosts.map(({ name }) => name).sort());
  });

  it('no secret of its is ever committed', () => {
    const ignored = textOf('.gitignore').split('\n');
    for (const { file: path } of Object.values(file.secrets)) expect(ignored).toContain(path.replace('./', ''));
    expect(ignored).toContain('.env');
    const context = textOf('.dockerignore').split('\n');
    expect(context).toContain('*');
    expect(context.filter((line) => /env|token|git/.test(line))).toEqual([]);
  });
});

describe('Dockerfile', () => {
  const lines = textOf('Dockerfile').split('\n');
  const from = lines.filter((line) => line.startsWith('FROM '));

  it('builds and runs on one pinned version of Node, which package.json takes; nobody runs it as root', () => {
    const versions = new Set(from.map((line) => /^FROM node:(\d+\.\d+\.\d+)-bookworm-slim\b/.exec(line)?.[1]));
    expect(versions.size).toBe(1);
    const [major = 0, minor = 0] = ([...versions][0] ?? '').split('.').map(Number);
    expect(major > 20 || (major === 20 && minor >= 19)).toBe(true);
    expect(lines).toContain('USER 1000:1000');
  });

  it('what it copies is there and in the context; what it runs has no packages for development', () => {
    const allowed = textOf('.dockerignore')
      .split('\n')
      .flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []));
    const copied = lines
      .filter((line) => /^COPY (?!--from)/.test(line))
      .flatMap((line) => line.split(' ').slice(1, -1));
    for (const path of copied.filter((one) => one !== '.')) {
      expect([path, existsSync(pathOf(path)), allowed.includes(path)]).toEqual([path, true, true]);
    }
    expect(lines).toContain('RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund');
    expect(lines).toContain('COPY --from=packages /src/node_modules ./node_modules');
  });
});
