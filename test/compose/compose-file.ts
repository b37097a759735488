/** docker-compose.yml as a test reads it: merged, and with its variables as Compose would fill them in. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { z } from 'zod';

const root = new URL('../../', import.meta.url);
export const pathOf = (name: string): string => fileURLToPath(new URL(name, root));
export const textOf = (name: string): string => readFileSync(pathOf(name), 'utf8');

const mount = z.strictObject({ source: z.string(), target: z.string() });
const serviceSchema = z.strictObject({
  image: z.string(),
  build: z.string().optional(),
  command: z.array(z.string()),
  restart: z.string(),
  init: z.boolean().optional(),
  stop_grace_period: z.string().optional(),
  user: z.string(),
  read_only: z.boolean(),
  tmpfs: z.array(z.string()),
  cap_drop: z.array(z.string()),
  security_opt: z.array(z.string()),
  depends_on: z.record(z.string(), z.strictObject({ condition: z.string() })).optional(),
  environment: z.record(z.string(), z.string()).optional(),
  configs: z.array(mount).optional(),
  secrets: z.array(mount).optional(),
  volumes: z.array(z.string()).optional(),
  networks: z.array(z.string()),
  ports: z.array(z.string()).optional(),
  healthcheck: z.strictObject({
    test: z.array(z.string()),
    interval: z.string(),
    timeout: z.string(),
    retries: z.number(),
    start_period: z.string(),
  }),
});

const fileSchema = z.strictObject({
  name: z.string(),
  'x-hostevac': z.unknown(),
  'x-worker-health': z.unknown(),
  services: z.record(z.string(), serviceSchema),
  networks: z.record(z.string(), z.strictObject({ internal: z.boolean().optional() })),
  volumes: z.record(z.string(), z.strictObject({})),
  configs: z.record(z.string(), z.strictObject({ file: z.string() })),
  secrets: z.record(z.string(), z.strictObject({ file: z.string() })),
});

/** Throws for a variable that is not given, as Compose does for `${NAME:?...}`. */
export function composeFile(variables: Readonly<Record<string, string>>): z.infer<typeof fileSchema> {
  const text = textOf('docker-compose.yml').replaceAll(/\$\{([A-Z_]+):\?[^}]*\}/g, (_, name: string) => {
    const value = variables[name];
    if (value === undefined) throw new Error(`${name} is not set`);
    return value;
  });
  return fileSchema.parse(parse(text, { merge: true }));
}

/** The options of a command line, `--name value` and `--name=value`. */
export function optionsOf(command: readonly string[]): Map<string, string> {
  const options = new Map<string, string>();
  for (const [index, word] of command.entries()) {
    const [, name, value] = /^(--[a-z.-]+)(?:=(.*))?$/.exec(word) ?? [];
    if (name !== undefined) options.set(name, value ?? command[index + 1] ?? '');
  }
  return options;
}
