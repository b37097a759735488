/** `serve`, `token` and `audit` as an operator meets them. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request as httpsRequest } from 'node:https';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../support/condition.ts';
import { smallFleet } from './small-fleet.ts';
import { Command, type Ended, userEnv } from './spawn.ts';

let home = '';
const started: Command[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'hostevac-test-'));
  await writeFile(join(home, 'fleet.yaml'), smallFleet());
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((command) => command.kill()));
  await rm(home, { recursive: true, force: true });
});

function start(...args: string[]): Command {
  const command = new Command(args, { env: userEnv(home), cwd: home });
  started.push(command);
  return command;
}
const run = (...args: string[]): Promise<Ended> => start(...args).ended;

async function startServe(...args: string[]): Promise<{ serve: Command; url: string }> {
  const serve = start('serve', '--port', '0', ...args);
  await serve.says(/^https?:\/\/\S+\n/);
  return { serve, url: serve.stdout.trim() };
}
const statusOf = async (url: string, token?: string): Promise<number> =>
  (await fetch(url, { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } })).status;

describe('serve', () => {
  it('takes requests without a worker, and ends when asked, streams and all', async () => {
    const { serve, url } = await startServe();
    expect(await (await fetch(`${url}/healthz`)).json()).toMatchObject({
      status: 'ok',
      workers: { operations: false },
    });
    const made = await fetch(`${url}/v1/evacuations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ host: 'node-a' }),
    });
    expect(made.status).toBe(201);
    const stream = await fetch(`${url}/v1/events`);
    const text = stream.text();
    serve.child.kill('SIGTERM');
    expect(await text).not.toContain('error');
    expect(await serve.ended).toMatchObject({ code: 0, stdout: `${url}\n` });
    const { operations } = JSON.parse((await run('status', '-o', 'json')).stdout);
    expect(operations).toHaveLength(1);
  });

  it('a port that is taken: nothing was started', async () => {
    const { url } = await startServe();
    const again = await run('serve', '--port', new URL(url).port);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringMatching(/already in use.*Nothing was started/s) });
  });

  it('where a token is required nobody is let in while there is none', async () => {
    const { url } = await startServe('--require-token');
    expect(await statusOf(`${url}/v1/hosts`)).toBe(401);
    expect(await statusOf(`${url}/`)).toBe(200);
  });

  it('a certificate that is none is said to be', async () => {
    await writeFile(join(home, 'bad.crt'), 'no certificate');
    await writeFile(join(home, 'bad.key'), 'no key');
    const bad = await run('serve', '--port', '0', '--tls-cert', 'bad.crt', '--tls-key', 'bad.key');
    expect(bad).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('bad.crt and bad.key cannot be used together'),
    });
  });

  it('an address that others reach needs a token first; with one it is served, over TLS too', {
    timeout: 90_000,
  }, async () => {
    const refused = await run('serve', '--port', '0', '--listen', '0.0.0.0');
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('hostevac token create'), stdout: '' });
    const half = await run('serve', '--port', '0', '--tls-cert', 'api.crt');
    expect(half).toMatchObject({ code: 2, stderr: expect.stringContaining('--tls-key') });
    const none = await run('serve', '--port', '0', '--tls-cert', 'api.crt', '--tls-key', 'api.key');
    expect(none).toMatchObject({ code: 2, stderr: expect.stringContaining('api.crt') });
    const made = await run('token', 'create', '--name', 'ops', '--role', 'admin');
    expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^hev_[0-9a-f]{8}_[\w-]{43}\n$/) });
    const subject = ['-subj', '/CN=localhost', '-days', '1', '-nodes'];
    const files = ['-keyout', join(home, 'api.key'), '-out', join(home, 'api.crt')];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', ...files, ...subject], { stdio: 'ignore' });
    const { url } = await startServe('--listen', '0.0.0.0', '--tls-cert', 'api.crt', '--tls-key', 'api.key');
    const { port } = new URL(url);
    const status = await new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${made.stdout.trim()}` };
      httpsRequest({ port, host: '127.0.0.1', path: '/v1/me', headers, rejectUnauthorized: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .once('error', reject)
        .end();
    });
    expect([url.startsWith('https://'), status]).toEqual([true, 200]);
  });
});

describe('token and audit', () => {
  it('make, list, revoke; a server that runs follows within two seconds, and all of it is written down', {
    timeout: 90_000,
  }, async () => {
    const { serve, url } = await startServe();
    expect(await statusOf(`${url}/v1/me`)).toBe(200);
    const made = await run('token', 'create', '--name', 'grafana', '--expires', '30d', '-o', 'json');
    const { token, id, role } = JSON.parse(made.stdout);
    expect(role).toBe('viewer');
    await until(async () => (await statusOf(`${url}/v1/me`)) === 401, 2_000, 'in force');
    expect(await statusOf(`${url}/v1/me`, token)).toBe(200);
    const twice = await run('token', 'create', '--name', 'grafana');
    expect(twice).toMatchObject({ code: 2, stderr: expect.stringContaining('another name') });
    const listed = await run('token', 'list');
    expect(listed.stdout).toMatch(new RegExp(`^${id} +grafana +viewer +valid`, 'm'));
    expect(listed.stdout).not.toContain(token.split('_').slice(2).join('_'));
    expect(await run('token', 'revoke', id)).toMatchObject({ code: 0, stdout: expect.stringContaining('revoked') });
    expect(await run('token', 'revoke', 'ffffffff')).toMatchObject({ code: 2 });
    await until(async () => (await statusOf(`${url}/v1/me`, token)) === 401, 2_000, 'revoked');
    expect(await run('token', 'revoke', '--all')).toMatchObject({ code: 0 });
    await until(async () => (await statusOf(`${url}/v1/me`)) === 200, 2_000, 'open to this machine again');

    await run('cordon', 'node-b');
    await run('evacuate', 'node-x');
    await run('evacuate', 'node-a');
    const { items } = JSON.parse((await run('audit', '-o', 'json')).stdout);
    expect(items.map(({ action, outcome }: Record<string, string>) => `${action} ${outcome}`)).toEqual([
      'evacuation.create done',
      'host.cordon done',
      'token.forgetAll done',
      'token.revoke done',
      'token.create done',
    ]);
    for (const item of items) expect(item).toMatchObject({ actor: userInfo().username, via: 'cli', role: 'admin' });
    expect((await run('audit', '--limit', '2')).stdout).toMatch(/cli +host\.cordon +node-b +done/);
    expect(serve.stderr + JSON.stringify(items)).not.toContain(token.split('_').slice(2).join('_'));
  });
});
