/** Finding and installing a Redis server, with stand-ins for the programs of the machine. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { redisServerProgram } from '../../src/runtime/redis-install.ts';

describe('the program of the embedded Redis', () => {
  let root: string;
  let bin: string;
  let lines: string[];
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'hostevac-install-'));
    bin = join(root, 'path');
    mkdirSync(bin);
    lines = [];
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const program = (name: string, script: string): string => {
    const path = join(bin, name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
    return path;
  };
  const find = () =>
    redisServerProgram({ env: { PATH: `${bin}:/nonexistent` }, stateDir: root, log: (line) => lines.push(line) });
  const SERVER = 'echo "Redis server v=7.0.15"';

  test('redis-server is preferred, valkey-server will do; nothing is said', async () => {
    const valkey = program('valkey-server', SERVER);
    expect(await find()).toBe(valkey);
    const redis = program('redis-server', SERVER);
    expect(await find()).toBe(redis);
    expect(lines).toEqual([]);
  });

  test("where only Debian's tools are, the server in them is used under its own name", async () => {
    program('redis-check-rdb', SERVER);
    expect(await find()).toBe(join(root, 'bin', 'redis-server'));
    expect(await find()).toBe(join(root, 'bin', 'redis-server'));
    expect(existsSync(join(root, 'bin', 'redis-server'))).toBe(true);
  });

  const asRoot = process.getuid?.() === 0;

  test.runIf(asRoot)(
    'as root with apt-get the tools are installed, without questions, saying so in one line',
    async () => {
      program(
        'apt-get',
        `echo "$@ $DEBIAN_FRONTEND" >>${root}/calls; /bin/cp /bin/true ${bin}/unused; printf '#!/bin/sh\\n${SERVER}\\n' >${bin}/redis-check-rdb; /bin/chmod 755 ${bin}/redis-check-rdb`,
      );
      expect(await find()).toBe(join(root, 'bin', 'redis-server'));
      const calls = readFileSync(join(root, 'calls'), 'utf8').trim().split('\n');
      expect(calls).toHaveLength(1);
      expect(calls[0]).toMatch(/install --yes --no-install-recommends redis-tools noninteractive$/);
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(/installing/);
    },
  );

  test.runIf(asRoot)('package lists that are missing are fetched, then it is tried again', async () => {
    program(
      'apt-get',
      `echo "$@" >>${root}/calls
case "$*" in
*update*) echo yes >${root}/lists ;;
*) [ -e ${root}/lists ] || { echo "E: Unable to locate package redis-tools" >&2; exit 100; }
   printf '#!/bin/sh\\n${SERVER}\\n' >${bin}/redis-server; /bin/chmod 755 ${bin}/redis-server ;;
esac`,
    );
    expect(await find()).toBe(join(bin, 'redis-server'));
    expect(readFileSync(join(root, 'calls'), 'utf8').trim().split('\n')).toHaveLength(3);
  });

  test.runIf(asRoot)('when apt-get fails, its last words are in the message', async () => {
    program('apt-get', 'echo "Reading lists"; echo "E: no network" >&2; exit 100');
    await expect(find()).rejects.toMatchObject({
      code: 'redisMissing',
      message: expect.stringMatching(/E: no network.*install Redis/s),
    });
  });

  test('without any of them one line says what to install', async () => {
    await expect(find()).rejects.toMatchObject({
      code: 'redisMissing',
      message: expect.stringMatching(
        /^neither redis-server nor valkey-server .*apt-get install redis-server.*REDIS_URL$/,
      ),
    });
  });
});
