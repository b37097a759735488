/** The OpenAPI document as a page: one file of text, no script, nothing from elsewhere. Pure. */
import { z } from 'zod';

const documentSchema = z.looseObject({
  info: z.looseObject({ title: z.string(), version: z.string(), description: z.string().optional() }),
  paths: z.record(
    z.string(),
    z.record(
      z.string(),
      z.looseObject({
        summary: z.string().optional(),
        description: z.string().optional(),
        'x-hostevac-role': z.string().optional(),
        parameters: z.array(z.looseObject({ name: z.string(), in: z.string(), schema: z.unknown() })).optional(),
        requestBody: z.unknown().optional(),
        responses: z.record(z.string(), z.looseObject({ description: z.string().optional() })).optional(),
      }),
    ),
  ),
  components: z.looseObject({ schemas: z.record(z.string(), z.unknown()).optional() }).optional(),
});

export function docsPage(document: unknown): string {
  const { info, paths, components } = documentSchema.parse(document);
  const routes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => {
      const role = route['x-hostevac-role'] ?? 'none';
      const parameters = (route.parameters ?? []).map(
        ({ name, in: place, schema }) =>
          `<li><code>${escaped(name)}</code> (${escaped(place)}) ${details('schema', schema)}</li>`,
      );
      const answers = Object.entries(route.responses ?? {}).map(
        ([status, { description = '', content }]) =>
          `<li><b>${escaped(status)}</b> ${escaped(description)} ${details('content', content)}</li>`,
      );
      return [
        `<section><h2><span>${method.toUpperCase()}</span> ${escaped(path)} <small>${escaped(role)}</small></h2>`,
        `<p>${escaped(route.summary ?? '')}. ${escaped(route.description ?? '')}</p>`,
        parameters.length === 0 ? '' : `<ul>${parameters.join('')}</ul>`,
        route.requestBody === undefined ? '' : details('body', route.requestBody),
        `<ul>${answers.join('')}</ul></section>`,
      ].join('\n');
    }),
  );
  const schemas = Object.entries(components?.schemas ?? {}).map(([name, schema]) => details(name, schema));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(info.title)}</title>
<link rel="stylesheet" href="/docs/style.css"></head><body><main>
<h1>${escaped(info.title)} ${escaped(info.version)}</h1><p>${escaped(info.description ?? '')}</p>
<p><a href="/openapi.json">openapi.json</a></p>
${routes.join('\n')}
<h1>Schemas</h1>
${schemas.join('\n')}
</main></body></html>
`;
}

function details(title: string, value: unknown): string {
  return `<details><summary>${escaped(title)}</summary><pre>${escaped(JSON.stringify(value, null, 2) ?? '')}</pre></details>`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (char) => ENTITIES[char] ?? '');
}

export const DOCS_STYLE = `:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
section { border-top: 1px solid #8888; padding: .5rem 0; }
h2 { font-size: 1.1rem; font-family: ui-monospace, monospace; }
h2 span { display: inline-block; min-width: 4rem; }
h2 small { font-weight: normal; opacity: .7; float: right; }
details { display: inline-block; vertical-align: top; max-width: 100%; }
pre { overflow: auto; max-height: 30rem; }
`;
