/** The JSON Schema for editors: it is the one that is committed, and an editor learns from it what the program knows. */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { fleetJsonSchema } from '../../src/domain/fleet-schema.ts';
import { parseDuration, parseRate, parseSize } from '../../src/domain/units.ts';

const file = new URL('../../docs/fleet.schema.json', import.meta.url);
const printed = `${JSON.stringify(fleetJsonSchema(), null, 2)}\n`;

type Json = { readonly [key: string]: unknown };
const isJson = (value: unknown): value is Json => typeof value === 'object' && value !== null;

/** Every schema in the schema, with its path. */
function* walk(schema: unknown, path = ''): Generator<[string, Json]> {
  if (!isJson(schema)) return;
  yield [path, schema];
  for (const [key, value] of Object.entries(schema)) yield* walk(value, `${path}/${key}`);
}

describe("the fleet file's JSON Schema", () => {
  test('the committed one is what the program checks (npm run schema writes it)', () => {
    if (process.env['HOSTEVAC_WRITE'] === '1') writeFileSync(file, printed);
    expect(readFileSync(file, 'utf8')).toBe(printed);
  });

  test('every key of a host, a VM and a phase is explained', () => {
    const unexplained: string[] = [];
    for (const [path, schema] of walk(fleetJsonSchema())) {
      const properties = schema['properties'];
      if (!isJson(properties) || path.includes('faults') || /rules|links/.test(path)) continue;
      for (const [key, value] of Object.entries(properties)) {
        if (!isJson(value) || (value['description'] === undefined && !isJson(value['properties'])))
          unexplained.push(`${path}/${key}`);
      }
    }
    expect(unexplained).toEqual([]);
  });

  test('its patterns and the parsers accept the same texts', () => {
    const patterns = new Map<string, (text: string) => number | undefined>();
    for (const [, schema] of walk(fleetJsonSchema())) {
      const { pattern, examples } = schema;
      if (typeof pattern !== 'string' || !Array.isArray(examples)) continue;
      const parse = [parseDuration, parseSize, parseRate].find((each) => each(String(examples[0])) !== undefined);
      if (parse !== undefined) patterns.set(pattern, parse);
    }
    expect(patterns.size).toBe(3);
    const numbers = ['1', '1.5', '01', '.5', '-1', '1e3', ''];
    const units = [
      'ms',
      's',
      'm',
      'h',
      'B',
      'kB',
      'KB',
      'MB',
      'TB',
      'KiB',
      'GiB',
      'TiB',
      'B/s',
      'GiB/s',
      'bit/s',
      'Gbit/s',
      'gbit/s',
      'Gbps',
      'bit',
      '',
    ];
    for (const [pattern, parse] of patterns) {
      for (const text of numbers.flatMap((number) =>
        units.flatMap((unit) => [`${number}${unit}`, `${number} ${unit}`, ` ${number}${unit} `]),
      )) {
        expect([text, new RegExp(pattern).test(text)]).toEqual([text, parse(text) !== undefined]);
      }
    }
  });
});
