/**
 * The dashboard: built files, served as they are, under a policy by which a page of this server loads nothing from elsewhere,
 * runs no inline script and is shown in nobody's frame.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import fastifyStatic from '@fastify/static';
import type { FastifyInstance } from 'fastify';

export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "font-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const NOT_BUILT = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>hostevac</title></head><body><h1>hostevac</h1>
<p>The dashboard was not built: run <code>npm run build</code>, then start this server again.</p>
<p>The API is here all the same: <a href="/docs">its routes</a>, <a href="/healthz">its health</a>.</p></body></html>
`;

/** `directory`: with an `index.html`; where there is none, a page says so. */
export async function serveDashboard(app: FastifyInstance, directory: string): Promise<void> {
  app.addHook('onRoute', (route) => {
    route.config = { ...route.config, role: 'none' };
  });
  if (existsSync(join(directory, 'index.html'))) {
    await app.register(fastifyStatic, {
      root: directory,
      // A route for each file: what is not there is no route.
      wildcard: false,
      index: 'index.html',
      dotfiles: 'ignore',
      cacheControl: false,
      setHeaders: (response, path) => {
        // The names of what is built hold a hash of its content.
        const lasting = path.includes('/assets/');
        response.setHeader('cache-control', lasting ? 'public, max-age=31536000, immutable' : 'no-cache');
      },
    });
    return;
  }
  app.get('/', { schema: { hide: true } }, async (_request, reply) =>
    reply.type('text/html; charset=utf-8').send(NOT_BUILT),
  );
}
