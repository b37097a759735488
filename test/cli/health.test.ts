import { afterEach, describe, expect, it } from 'vitest';
import { type Health, type HealthServer, serveHealth } from '../../src/cli/health.ts';

const fine: Health = { status: 'ok', redis: 'ok', workers: { operations: true, hosts: ['node-a'] } };
const open: HealthServer[] = [];
async function serve(health: () => Promise<Health>, port = 0): Promise<HealthServer> {
  const server = await serveHealth(port, health);
  open.push(server);
  return server;
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

describe('the health endpoint', () => {
  it('answers 200 with the state when all is well', async () => {
    const { url } = await serve(async () => fine);
    const response = await fetch(`${url}/healthz?verbose`);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual(fine);
  });

  it.each<Health['status']>(['starting', 'stopping', 'degraded'])('answers 503 while %s', async (status) => {
    const { url } = await serve(async () => ({ ...fine, status }));
    expect((await fetch(`${url}/healthz`)).status).toBe(503);
  });

  it('answers 503 when it cannot tell', async () => {
    const { url } = await serve(() => Promise.reject(new Error('gone')));
    expect((await fetch(`${url}/healthz`)).status).toBe(503);
    expect((await fetch(url)).status).toBe(404);
  });

  it('a port that is taken is refused with what to do', async () => {
    const { url } = await serve(async () => fine);
    const port = Number(new URL(url).port);
    await expect(serveHealth(port, async () => fine)).rejects.toMatchObject({
      code: 'portTaken',
      exitCode: 1,
      message: expect.stringMatching(/already in use.*--port/),
    });
  });
});
