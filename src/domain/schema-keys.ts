/** What may stand at a place of an input: read off the schema's JSON Schema form, so that no schema is described twice. */
import { z } from 'zod';

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** The value at a path, undefined where there is none. Own properties only. */
export function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = Reflect.get(value, step);
  }
  return value;
}

/** Made once for each schema: that costs more than everything that is done with it. */
const written = new WeakMap<z.ZodType, JsonSchema>();

function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const known = written.get(schema);
  if (known !== undefined) return known;
  const made = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  written.set(schema, made);
  return made;
}

/** The keys that the object at `path` of `root` may have, in the schema's order. */
export function keysAllowedAt(schema: z.ZodType, root: unknown, path: readonly PropertyKey[]): string[] {
  let here = branches(jsonSchemaOf(schema), root);
  for (const [index, step] of path.entries()) {
    const value = valueAt(root, path.slice(0, index + 1));
    here = here.flatMap((at) => childrenOf(at, step)).flatMap((child) => branches(child, value));
  }
  return [...new Set(here.flatMap((at) => Object.keys(at.properties ?? {})))];
}

function childrenOf(schema: JsonSchema, step: PropertyKey): JsonSchema[] {
  const child =
    typeof step === 'number'
      ? schema.items
      : typeof step === 'string'
        ? (schema.properties?.[step] ?? schema.additionalProperties)
        : undefined;
  return typeof child === 'object' && !Array.isArray(child) ? [child] : [];
}

/** The alternatives of a union that the value's constants (its discriminators) do not rule out; all, if they rule out every one. */
function branches(schema: JsonSchema, value: unknown): JsonSchema[] {
  const options = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])].filter((option) => typeof option === 'object');
  if (options.length === 0) return [schema];
  const fitting = options.filter((option) =>
    Object.entries(option.properties ?? {}).every(
      ([key, property]) =>
        typeof property !== 'object' || property.const === undefined || property.const === valueAt(value, [key]),
    ),
  );
  return (fitting.length > 0 ? fitting : options).flatMap((option) => branches(option, value));
}
