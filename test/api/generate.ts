/** Requests as the OpenAPI document describes them, for property-based tests: valid ones, nearly valid ones, and nonsense. */
import fc from 'fast-check';
import type { Checker, DocumentedRoute } from './checker.ts';

type Schema = Readonly<Record<string, unknown>>;

export interface Generated {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** As it is sent; undefined: none. */
  readonly body: string | undefined;
}

/** Values that lead further than random text does, by what they are the name of. */
export interface Known {
  readonly hosts: readonly string[];
  readonly vms: readonly string[];
  readonly ids: () => readonly string[];
}

const QUANTITIES = ['30s', '10m', '40MiB/s', '1Gbit/s', '-1', '0', '1e999', 'never'];

export class Generator {
  readonly #checker: Checker;
  readonly #known: Known;

  constructor(checker: Checker, known: Known) {
    this.#checker = checker;
    this.#known = known;
  }

  /** Any request to any route. */
  request(): fc.Arbitrary<Generated> {
    // What changes something three times as often.
    const routes = this.#checker.routes.flatMap((one) => (one.method === 'POST' ? [one, one, one] : [one]));
    return fc.constantFrom(...routes).chain((route) => this.to(route));
  }

  to({ method, path, route }: DocumentedRoute, valid = false): fc.Arbitrary<Generated> {
    const text = (name: string): fc.Arbitrary<string> =>
      valid
        ? this.#text(name)
        : fc.oneof({ weight: 6, arbitrary: this.#text(name) }, fc.string({ unit: 'binary', maxLength: 300 }));
    const names = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name = '']) => name);
    const parameters = (place: string) =>
      fc.record(
        Object.fromEntries(
          route.parameters
            .filter((one) => one.in === place)
            .map((one) => {
              const well = this.value(one.schema, one.name);
              return [one.name, valid ? well : fc.oneof({ weight: 4, arbitrary: well }, text(one.name))];
            }),
        ),
        { requiredKeys: [] },
      );
    const schema = route.requestBody?.content['application/json']?.schema;
    const well = schema === undefined ? fc.constant(undefined) : this.value(schema as Schema);
    const body = valid
      ? well.map(printed)
      : fc.oneof(
          { weight: 5, arbitrary: well.map(printed) },
          ...(schema === undefined ? [] : [{ weight: 5, arbitrary: this.#least(schema as Schema).map(printed) }]),
          { weight: 3, arbitrary: well.chain((value) => this.#spoiled(value)).map(printed) },
          { weight: 1, arbitrary: fc.jsonValue().map(printed) },
          { weight: 1, arbitrary: fc.string() },
          { weight: 1, arbitrary: fc.constant(undefined) },
        );
    return fc
      .record({
        params: fc.record(
          Object.fromEntries(names.map((name) => [name, text(path.includes('migrations/') ? 'migration' : name)])),
        ),
        query: parameters('query'),
        headers: parameters('header'),
        body,
      })
      .map(({ params, query, headers, body: sent }) => {
        const filled = path.replace(/\{([^}]+)\}/g, (_, name: string) => encode(params[name] ?? 'x'));
        const search = Object.entries(query).map(([key, value]) => `${key}=${encode(String(value))}`);
        return {
          method,
          path: search.length === 0 ? filled : `${filled}?${search.join('&')}`,
          headers: Object.fromEntries(
            Object.entries(headers).flatMap(([key, value]) => {
              const safe = String(value).replace(/[^\x21-\x7e]/g, '');
              return safe === '' ? [] : [[key, safe]];
            }),
          ),
          body: method === 'GET' ? undefined : sent,
        };
      });
  }

  /** A value that the schema allows, or nearly (what a refinement says is in no schema). */
  value(schema: Schema, name = ''): fc.Arbitrary<unknown> {
    const { $ref, anyOf, oneOf, enum: choices, const: constant, type } = schema;
    if (typeof $ref === 'string') return this.value(this.#resolve($ref), name);
    const either = Array.isArray(anyOf) ? anyOf : Array.isArray(oneOf) ? oneOf : null;
    // A quantity: text of a form, or a number.
    if (either !== null && typeof schema['pattern'] === 'string') {
      const examples = Array.isArray(schema['examples']) ? schema['examples'] : ['1s'];
      return fc.oneof(fc.constantFrom<unknown>(...examples), fc.integer({ min: 1, max: 1_000_000 }));
    }
    if (either !== null) return fc.oneof(...either.map((one: Schema) => this.value(one)));
    if (Array.isArray(choices)) return fc.constantFrom(...choices);
    if (constant !== undefined) return fc.constant(constant);
    switch (type) {
      case 'string':
        return typeof schema['pattern'] === 'string'
          ? fc.stringMatching(new RegExp(schema['pattern']))
          : fc.oneof({ weight: 5, arbitrary: this.#text(name) }, fc.constantFrom(...QUANTITIES));
      case 'integer':
        return fc.integer({ min: numberOf(schema['minimum'], -10), max: numberOf(schema['maximum'], 1_000) });
      case 'number':
        return fc.double({ min: numberOf(schema['minimum'], 0), max: numberOf(schema['maximum'], 1e9), noNaN: true });
      case 'boolean':
        return fc.boolean();
      case 'array':
        return fc.array(this.value((schema['items'] ?? {}) as Schema), {
          minLength: numberOf(schema['minItems'], 0),
          maxLength: Math.min(4, numberOf(schema['maxItems'], 4)),
        });
      case 'object':
        return this.#object(schema);
      case 'null':
        return fc.constant(null);
      default:
        return fc.jsonValue();
    }
  }

  #object(schema: Schema): fc.Arbitrary<unknown> {
    const properties = (schema['properties'] ?? {}) as Readonly<Record<string, Schema>>;
    const required = (schema['required'] ?? []) as string[];
    const known = fc.record(
      Object.fromEntries(Object.entries(properties).map(([key, one]) => [key, this.value(one, key)])),
      { requiredKeys: required },
    );
    const more = schema['additionalProperties'];
    if (typeof more !== 'object' || more === null) return known;
    return fc
      .tuple(known, fc.dictionary(this.#text('vm'), this.value(more as Schema), { maxKeys: 2 }))
      .map(([one, other]) => ({ ...other, ...one }));
  }

  /** Nothing in it but what must be. */
  #least(schema: Schema): fc.Arbitrary<unknown> {
    const required = (schema['required'] ?? []) as string[];
    const properties = (schema['properties'] ?? {}) as Readonly<Record<string, Schema>>;
    if (schema['type'] !== 'object') return this.value(schema);
    return fc.record(Object.fromEntries(required.map((key) => [key, this.value(properties[key] ?? {}, key)])));
  }

  /** One thing is wrong with it. */
  #spoiled(value: unknown): fc.Arbitrary<unknown> {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return fc.jsonValue();
    const keys = Object.keys(value);
    return fc.oneof(
      fc.tuple(fc.constantFrom(...(keys.length === 0 ? ['host'] : keys)), fc.jsonValue()).map(([key, other]) => ({
        ...value,
        [key]: other,
      })),
      fc.tuple(fc.string(), fc.jsonValue()).map(([key, other]) => ({ ...value, [key]: other })),
      fc.constantFrom(...(keys.length === 0 ? ['host'] : keys)).map((key) => {
        const { [key]: _gone, ...rest } = value as Readonly<Record<string, unknown>>;
        return rest;
      }),
    );
  }

  #text(name: string): fc.Arbitrary<string> {
    const { hosts, vms, ids } = this.#known;
    const known = (): readonly string[] => {
      if (name === 'host' || name === 'to') return hosts;
      if (name === 'vm' || name === 'name') return vms;
      if (name === 'idempotency-key') return ['one', 'two', 'three'];
      if (name === 'migration') return ids().map((id) => `${id}-1-1`);
      return name === 'id' ? ids() : [...hosts, ...vms, ...ids()];
    };
    return fc.oneof(
      { weight: 6, arbitrary: fc.nat().map((n) => known()[n % known().length] ?? 'x') },
      { weight: 1, arbitrary: fc.string({ minLength: 1, maxLength: 20 }) },
    );
  }

  #resolve(ref: string): Schema {
    const name = ref.split('/').at(-1) ?? '';
    return (this.#checker.document.components.schemas[name] ?? {}) as Schema;
  }
}

function numberOf(value: unknown, fallback: number): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : fallback;
}

function printed(value: unknown): string | undefined {
  return value === undefined ? undefined : JSON.stringify(value);
}

/** Half a surrogate pair cannot be encoded; a part of a path is never empty, and dots would be taken for folders. */
function encode(text: string): string {
  const whole = text.replace(/\p{Cs}/gu, '?');
  return whole === '' || /^\.+$/.test(whole) ? 'x' : encodeURIComponent(whole);
}
