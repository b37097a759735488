/** Compares answers with the OpenAPI document: status, content type and body have to be in it. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { z } from 'zod';

const mediaSchema = z.record(z.string(), z.looseObject({ schema: z.unknown() }));
const routeSchema = z.looseObject({
  operationId: z.string(),
  parameters: z
    .array(
      z.looseObject({
        name: z.string(),
        in: z.enum(['path', 'query', 'header']),
        required: z.boolean().optional(),
        schema: z.record(z.string(), z.unknown()),
      }),
    )
    .default([]),
  requestBody: z.looseObject({ content: mediaSchema }).optional(),
  responses: z.record(z.string(), z.looseObject({ content: mediaSchema.optional() })),
  security: z.array(z.unknown()).optional(),
  'x-hostevac-role': z.enum(['none', 'viewer', 'operator', 'admin']),
});
export const documentSchema = z.looseObject({
  openapi: z.string(),
  paths: z.record(z.string(), z.record(z.string(), routeSchema)),
  components: z.looseObject({ schemas: z.record(z.string(), z.unknown()) }),
});

export interface DocumentedRoute {
  readonly method: string;
  /** `/v1/hosts/{host}` */
  readonly path: string;
  readonly route: z.infer<typeof routeSchema>;
}

interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly json: unknown;
}

export class Checker {
  readonly document: z.infer<typeof documentSchema>;
  readonly routes: readonly DocumentedRoute[];
  readonly #ajv = new Ajv2020({ strict: false, allErrors: true });
  readonly #validators = new Map<string, ValidateFunction>();

  constructor(document: unknown) {
    this.document = documentSchema.parse(JSON.parse(JSON.stringify(document)));
    this.#ajv.addSchema({ $id: 'doc', components: this.document.components });
    this.routes = Object.entries(this.document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, route]) => ({ method: method.toUpperCase(), path, route })),
    );
  }

  /** The route that an address is of, or undefined. */
  routeOf(method: string, address: string): DocumentedRoute | undefined {
    const path = address.split('?')[0] ?? '';
    return this.routes.find((one) => one.method === method && patternOf(one.path).test(path));
  }

  /** Throws when the document has no such answer. What is in no path of it may be 404 or 405 only. */
  check(method: string, address: string, { status, headers, json }: Answered): void {
    const found = this.routeOf(method, address);
    const type = (headers.get('content-type') ?? '').split(';')[0] ?? '';
    const where = `${method} ${address} -> ${status} ${type}`;
    if (found === undefined) {
      if (![404, 405].includes(status)) throw new Error(`${where}: not in the document`);
      this.#mustFit(where, 'Problem', { $ref: '#/components/schemas/Problem' }, json);
      return;
    }
    const answer = found.route.responses[String(status)];
    const content = answer?.content?.[type];
    if (content === undefined) throw new Error(`${where}: not in the document: ${JSON.stringify(json)}`);
    if (type.includes('json')) this.#mustFit(where, `${method} ${found.path} ${status}`, content.schema, json);
  }

  #mustFit(where: string, key: string, schema: unknown, value: unknown): void {
    const fits = this.validator(key, schema);
    if (!fits(value)) {
      const why = this.#ajv.errorsText(fits.errors).slice(0, 600);
      throw new Error(`${where}: ${why}\n${JSON.stringify(value).slice(0, 1_500)}`);
    }
  }

  validator(key: string, schema: unknown): ValidateFunction {
    const known = this.#validators.get(key);
    if (known !== undefined) return known;
    const made = this.#ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"#/components', '"doc#/components')));
    this.#validators.set(key, made);
    return made;
  }
}

function patternOf(path: string): RegExp {
  const source = path.replace(/[.*+?^$()|[\]\\]/g, '\\$&').replace(/\{[^}]+\}/g, '[^/]+');
  return new RegExp(`^${source}$`);
}
