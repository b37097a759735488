/** Where a fleet comes from: which file wins, what is said when there is none, and what the hash sees. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { fleetHash, loadFleet, packageFile } from '../../src/runtime/fleet-source.ts';

const example = readFileSync(new URL('../../docs/examples/fleet.yaml', import.meta.url), 'utf8');
const named = (name: string) => example.replace('name: example', `name: ${name}`);

describe('the fleet file', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostevac-fleet-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const write = (file: string, text: string) => {
    writeFileSync(join(directory, file), text);
    return join(directory, file);
  };
  const code = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      return error instanceof HostevacError ? error : undefined;
    }
    return undefined;
  };

  test('the one that is named wins over HOSTEVAC_FLEET, and that over the one that lies here', () => {
    write('fleet.yaml', named('here'));
    const env = { HOSTEVAC_FLEET: write('env.yaml', named('env')) };
    const path = write('option.yaml', named('option'));
    expect(loadFleet({ path, env, directory }).fleet.name).toBe('option');
    expect(loadFleet({ env, directory }).fleet.name).toBe('env');
    expect(loadFleet({ env: { HOSTEVAC_FLEET: '' }, directory }).fleet.name).toBe('here');
  });

  test('fleet.yml and fleet.json are found too, and read as what they are', () => {
    write('fleet.json', JSON.stringify(parseFleet(named('json'), { format: 'yaml', name: '' })));
    expect(loadFleet({ env: {}, directory })).toMatchObject({
      path: join(directory, 'fleet.json'),
      fleet: { name: 'json' },
    });
    write('fleet.yml', named('yml'));
    expect(loadFleet({ env: {}, directory }).fleet.name).toBe('yml');
  });

  test('without one the message says where it was looked for and how to get one', () => {
    const error = code(() => loadFleet({ env: {}, directory }));
    expect(error?.code).toBe('fleetFileMissing');
    expect(error?.exitCode).toBe(2);
    expect(error?.message).toMatch(
      /fleet\.yaml, fleet\.yml, fleet\.json.*--fleet FILE or HOSTEVAC_FLEET.*cp .*docs\/examples\/fleet\.yaml fleet\.yaml/,
    );
  });

  test('one that cannot be read is named with the reason', () => {
    expect(code(() => loadFleet({ path: join(directory, 'none.yaml') }))?.message).toMatch(
      /none\.yaml does not exist;/,
    );
    mkdirSync(join(directory, 'dir'));
    expect(code(() => loadFleet({ path: join(directory, 'dir') }))?.message).toMatch(/dir is a directory;/);
  });

  test('the problems of a file carry its name', () => {
    const path = write('bad.yaml', 'hosts: []');
    expect(code(() => loadFleet({ path }))).toMatchObject({
      code: 'badInput',
      message: expect.stringContaining(`${path} has 1 problem:`),
    });
  });

  test('files of the package are found wherever it is installed', () => {
    expect(readFileSync(packageFile('docs/examples/fleet.yaml') ?? '', 'utf8')).toBe(example);
    expect(packageFile('docs/examples/none.yaml')).toBeUndefined();
  });
});

describe('the hash of a fleet', () => {
  const hash = (text: string) => fleetHash(parseFleet(text, { format: 'yaml', name: 'x' }));

  test('is 16 hex digits, the same for the same fleet however it is written', () => {
    expect(hash(example)).toMatch(/^[0-9a-f]{16}$/);
    expect(hash(`# a comment\n${example.replaceAll('10Gbit/s', '1.25GB/s')}`)).toBe(hash(example));
    const fleet = parseFleet(example, { format: 'yaml', name: 'x' });
    const { name, hosts, reserve, ...rest } = fleet;
    const turned = { ...rest, reserve: { cpus: reserve.cpus, memory: reserve.memory }, hosts, name };
    expect(JSON.stringify(turned)).not.toBe(JSON.stringify(fleet));
    expect(fleetHash(turned)).toBe(fleetHash(fleet));
  });

  test('changes with any value and with the order of hosts', () => {
    expect(hash(example.replace('speed: 4', 'speed: 5'))).not.toBe(hash(example));
    const fleet = parseFleet(example, { format: 'yaml', name: 'x' });
    expect(fleetHash({ ...fleet, hosts: [...fleet.hosts].reverse() })).not.toBe(fleetHash(fleet));
  });
});
