/**
 * The direction of the arrows: domain <- pure rooms <- ports <- workflows <- adapters <- entry points. A file belongs to
 * the first room of the table that has it; what its layer may import and mention stands there too. A file in no room
 * fails, so a new room is a decision somebody makes here.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { importsOf, mentionsOf, strip } from './scan.ts';

const LAYERS = {
  domain: { may: ['domain'], packages: ['zod', 'yaml'], untimed: true },
  pure: { may: ['domain', 'pure'], packages: ['zod'], untimed: true },
  ports: { may: ['domain', 'ports'], packages: ['zod'], untimed: true },
  workflows: { may: ['domain', 'pure', 'ports', 'workflows'], packages: ['zod'], untimed: true },
  adapters: { may: ['domain', 'pure', 'ports', 'workflows', 'adapters'], packages: 'any', untimed: false },
  entry: {
    may: ['domain', 'pure', 'ports', 'workflows', 'adapters', 'wire', 'entry'],
    packages: 'any',
    untimed: false,
  },
  /** What goes over the wire. */
  wire: { may: ['domain', 'wire'], packages: ['zod'], untimed: true },
  /** What runs in a browser: it has nothing of the program but words and figures, and knows its server's answers as types. */
  browser: {
    may: ['domain', 'browser'],
    types: ['wire'],
    packages: ['preact', 'preact/hooks', 'uplot', 'uplot/dist/uPlot.min.css'],
    untimed: false,
  },
} as const;
type Layer = keyof typeof LAYERS;

/** First match wins. */
const ROOMS: readonly (readonly [glob: string, layer: Layer])[] = [
  ['src/domain/**', 'domain'],
  ['src/convergence/**', 'pure'],
  ['src/planning/**', 'pure'],
  ['src/bandwidth/{allocate,lower-bound,preempt,resources,waiting-for}.ts', 'pure'],
  // The pure step of the simulation and all it is made of.
  ['src/hypervisors/simulated/{model,step}*.ts', 'pure'],
  [
    'src/hypervisors/simulated/{commands,faults,guest,hash,migrations,network,passes,post-copy,records,shutdown,stages}.ts',
    'pure',
  ],
  ['src/clock/clock.ts', 'ports'],
  ['src/store/{cell,lease,event-log}.ts', 'ports'],
  ['src/hypervisors/{counters,hypervisor}.ts', 'ports'],
  ['src/throttling/throttle.ts', 'ports'],
  ['src/bandwidth/budget.ts', 'ports'],
  ['src/queue/delivery.ts', 'ports'],
  // What doctor's findings are, and what is said of which facts.
  ['src/doctor/{finding,libvirt-uri,redis-commands}.ts', 'pure'],
  ['src/doctor/judge/**', 'pure'],
  ['src/migration/**', 'workflows'],
  ['src/operations/**', 'workflows'],
  // What is kept in cells: decisions over a port, no storage of its own.
  ['src/store/{abandoned,claims,records,presence}.ts', 'workflows'],
  ['src/bandwidth/cell-budget.ts', 'workflows'],
  ['src/{clock,store,bandwidth,throttling,queue,runtime}/**', 'adapters'],
  ['src/hypervisors/*/**', 'adapters'],
  ['src/lab/**', 'adapters'],
  ['src/doctor/**', 'adapters'],
  ['src/{metrics,tracing,webhooks}/**', 'adapters'],
  ['src/api/schemas/**', 'wire'],
  ['src/dashboard/**', 'browser'],
  ['src/{cli,api}/**', 'entry'],
  ['src/index.ts', 'entry'],
  ['workers/**', 'entry'],
];

/** Types only: the words of a port that a pure decision is about. Each with the reason why it is no arrow the wrong way. */
const TYPES_ONLY: readonly (readonly [from: string, to: string, why: string])[] = [
  [
    'src/bandwidth/allocate.ts',
    'src/bandwidth/budget.ts',
    'the allocation decides about the tiers that the port names',
  ],
];

/** Time, chance and the process: they come in as arguments, or through the clock's port. */
const TIMED = [
  /\bDate\.now\b/,
  /\bnew Date\b(?=\s*(?:\(\s*\)|[^\s(]))/,
  /\bMath\.random\b/,
  /\bset(?:Timeout|Interval|Immediate)\b/,
  /\bperformance\.now\b/,
  /\bprocess\.\w+/,
  /\bcrypto\.(?:randomUUID|getRandomValues|randomBytes)\b/,
];

function layerOf(path: string): Layer | undefined {
  return ROOMS.find(([glob]) => globPattern(glob).test(path))?.[1];
}

/** `**` any path, `*` within a folder, `{a,b}` either. */
function globPattern(glob: string): RegExp {
  const source = glob
    .replace(/[.]/g, '\\.')
    .replace(/\{([^}]*)\}/g, (_, names: string) => `(?:${names.replaceAll(',', '|')})`)
    .replace(/\*\*|\*/g, (stars) => (stars === '**' ? '.+' : '[^/]*'));
  return new RegExp(`^${source}$`);
}

/** What one file does that its layer may not, one line each. */
function faultsIn(path: string, text: string): string[] {
  const layer = layerOf(path);
  if (layer === undefined) return [`${path}: is in no room; add it to ROOMS in test/architecture/arrows.test.ts`];
  const { may, packages, untimed } = LAYERS[layer];
  const types: readonly Layer[] = layer === 'browser' ? LAYERS.browser.types : [];
  const faults: string[] = [];
  for (const { specifier, line, typeOnly } of importsOf(text)) {
    const where = `${path}:${line}`;
    if (!specifier.startsWith('.')) {
      const known: readonly string[] | 'any' = packages;
      if (known !== 'any' && !known.includes(specifier)) faults.push(`${where}: ${layer} imports ${specifier}`);
      continue;
    }
    const target = posix.normalize(posix.join(posix.dirname(path), specifier));
    const excepted = typeOnly && TYPES_ONLY.some(([from, to]) => from === path && to === target);
    const targetLayer = layerOf(target);
    const allowed: readonly Layer[] = may;
    if (targetLayer === undefined) {
      if (untimed) faults.push(`${where}: ${layer} imports ${target}, which is in no room`);
    } else if (!allowed.includes(targetLayer) && !excepted && !(typeOnly && types.includes(targetLayer))) {
      faults.push(`${where}: ${layer} imports ${target}, which is ${targetLayer}`);
    }
  }
  if (untimed)
    faults.push(...mentionsOf(text, TIMED).map(({ word, line }) => `${path}:${line}: ${layer} mentions ${word}`));
  return faults;
}

const root = fileURLToPath(new URL('../../', import.meta.url));
const textOf = (path: string) => readFileSync(posix.join(root, path), 'utf8');
const sources = ['src', 'workers']
  .filter((folder) => existsSync(posix.join(root, folder)))
  .flatMap((folder) =>
    readdirSync(posix.join(root, folder), { recursive: true, encoding: 'utf8' }).map((path) =>
      posix.join(folder, path),
    ),
  )
  .filter((path) => /\.tsx?$/.test(path))
  .sort();

const MAX_LINES = 400;

describe('the house', () => {
  test('every file is in a room, and no import breaks the direction of the arrows', () => {
    expect(sources.length).toBeGreaterThan(30);
    expect(sources.flatMap((path) => faultsIn(path, textOf(path)))).toEqual([]);
  });

  test('every file says first what lives in it', () => {
    expect(sources.filter((path) => !opensWithComment(textOf(path)))).toEqual([]);
  });

  test('what the browser takes of the domain makes no schemas: those would bring a library along', () => {
    const taken = sources
      .filter((path) => path.startsWith('src/dashboard/'))
      .flatMap((path) => runtimeImports(path).filter((target) => target.startsWith('src/domain/')));
    expect(taken.length).toBeGreaterThan(5);
    const known = [...new Set(taken)];
    expect(
      known.filter((path) =>
        importsOf(textOf(path)).some(({ typeOnly, specifier }) => !typeOnly && specifier === 'zod'),
      ),
    ).toEqual([]);
    // Nor do those that they rest on.
    expect(known.flatMap(runtimeImports).filter((path) => !known.includes(path))).toEqual([]);
  });

  test(`no file is longer than ${MAX_LINES} lines: what is inside wants names of its own`, () => {
    expect(sources.filter((path) => lineCount(textOf(path)) > MAX_LINES)).toEqual([]);
  });

  test('every exception is still needed', () => {
    for (const [from, to] of TYPES_ONLY) {
      const used = importsOf(textOf(from)).some(({ specifier }) => posix.join(posix.dirname(from), specifier) === to);
      expect([from, to, used]).toEqual([from, to, true]);
    }
  });
});

/** The project's own files that are still imported when types have vanished. */
function runtimeImports(path: string): string[] {
  return importsOf(textOf(path))
    .filter(({ specifier, typeOnly }) => specifier.startsWith('.') && !typeOnly)
    .map(({ specifier }) => posix.normalize(posix.join(posix.dirname(path), specifier)));
}

function opensWithComment(text: string): boolean {
  return /^(?:#!.*\n)?\s*(?:\/\/|\/\*)/.test(text);
}

function lineCount(text: string): number {
  return text.trimEnd().split('\n').length;
}

describe('a planted fault is caught', () => {
  test.each([
    [
      'src/domain/policy.ts',
      "import { x } from '../convergence/controller.ts';",
      'domain imports src/convergence/controller.ts, which is pure',
    ],
    [
      'src/domain/policy.ts',
      "import type { X } from '../clock/clock.ts';",
      'domain imports src/clock/clock.ts, which is ports',
    ],
    ['src/domain/policy.ts', "import fs from 'node:fs';", 'domain imports node:fs'],
    ['src/convergence/new.ts', "import { Redis } from 'ioredis';", 'pure imports ioredis'],
    ['src/convergence/new.ts', "import type { Redis } from 'ioredis';", 'pure imports ioredis'],
    ['src/planning/new.ts', "const q = await import('bullmq');", 'pure imports bullmq'],
    ['src/planning/new.ts', 'const q = await import(name);', 'pure imports (computed)'],
    ['src/planning/new.ts', "export { log } from 'pino';", 'pure imports pino'],
    ['src/planning/new.ts', "import 'node:process';", 'pure imports node:process'],
    [
      'src/planning/new.ts',
      "import {\n  a,\n  b,\n} from '../store/lease.ts';",
      'pure imports src/store/lease.ts, which is ports',
    ],
    [
      'src/planning/new.ts',
      "export * from '../migration/states.ts';",
      'pure imports src/migration/states.ts, which is workflows',
    ],
    [
      'src/planning/new.ts',
      "import data from '../../package.json' with { type: 'json' };",
      'pure imports package.json, which is in no room',
    ],
    [
      'src/hypervisors/simulated/step-guest.ts',
      "import { l } from './redis-log.ts';",
      'pure imports src/hypervisors/simulated/redis-log.ts, which is adapters',
    ],
    [
      'src/bandwidth/allocate.ts',
      "import { BUDGET_TOPIC } from './budget.ts';",
      'pure imports src/bandwidth/budget.ts, which is ports',
    ],
    [
      'src/store/lease.ts',
      "import { r } from './redis-leases.ts';",
      'ports imports src/store/redis-leases.ts, which is adapters',
    ],
    [
      'src/store/lease.ts',
      "import { a } from '../bandwidth/allocate.ts';",
      'ports imports src/bandwidth/allocate.ts, which is pure',
    ],
    [
      'src/migration/new.ts',
      "import { s } from '../store/redis-store.ts';",
      'workflows imports src/store/redis-store.ts, which is adapters',
    ],
    ['src/operations/new.ts', "import { randomUUID } from 'node:crypto';", 'workflows imports node:crypto'],
    [
      'src/queue/bullmq-delivery.ts',
      "import { cli } from '../cli/program.ts';",
      'adapters imports src/cli/program.ts, which is entry',
    ],
    [
      'src/dashboard/new.tsx',
      "import { hostSchema } from '../api/schemas/fleet.ts';",
      'browser imports src/api/schemas/fleet.ts, which is wire',
    ],
    ['src/dashboard/new.tsx', "import { z } from 'zod';", 'browser imports zod'],
    [
      'src/dashboard/new.tsx',
      "import type { Producer } from '../queue/producer.ts';",
      'browser imports src/queue/producer.ts, which is adapters',
    ],
    [
      'src/api/schemas/new.ts',
      "import { serve } from '../server.ts';",
      'wire imports src/api/server.ts, which is entry',
    ],
    ['src/newroom/x.ts', '', 'is in no room; add it to ROOMS in test/architecture/arrows.test.ts'],
    ['src/domain/policy.ts', 'const t = Date.now();', 'domain mentions Date.now'],
    ['src/planning/new.ts', 'const t = new Date();', 'pure mentions new Date'],
    ['src/planning/new.ts', 'const r = Math.random();', 'pure mentions Math.random'],
    ['src/migration/new.ts', 'await new Promise((r) => setTimeout(r, 5));', 'workflows mentions setTimeout'],
    ['src/operations/new.ts', `const t = \`\${performance.now()} ms\`;`, 'workflows mentions performance.now'],
    ['src/operations/new.ts', "if (process.env['X']) stop();", 'workflows mentions process.env'],
  ])('%s: %s', (path, text, fault) => {
    const faults = faultsIn(path, `/** A room. */\n${text}\n`);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toContain(fault);
  });

  test.each([
    [
      'src/queue/create-producer.ts',
      "import { Redis } from 'ioredis';\nimport { turn } from '../operations/turn.ts';\nconst t = Date.now();",
    ],
    [
      'src/migration/new.ts',
      "import { z } from 'zod';\nimport { rfc2011 } from '../convergence/rfc2011.ts';\nimport type { Clock } from '../clock/clock.ts';",
    ],
    ['src/bandwidth/allocate.ts', "import type { Tier } from './budget.ts';"],
    [
      'src/planning/new.ts',
      "// never Date.now() here, as in import x from 'ioredis'\nconst hint = \"import { x } from 'ioredis'; Math.random()\";",
    ],
    [
      'src/planning/new.ts',
      'const at = new Date(ms); const quote = /[\'"`/]/; const process = 1; const half = process / 2; // setTimeout',
    ],
    [
      'src/dashboard/new.tsx',
      "import type { Host } from '../api/schemas/fleet.ts';\nimport { formatRate } from '../domain/format.ts';",
    ],
    ['workers/migrations.ts', "import { up } from '../src/cli/run.ts';\nsetTimeout(up, 1);"],
  ])('and what is right is not: %s', (path, text) => {
    expect(faultsIn(path, text)).toEqual([]);
  });

  test('a file without its first comment, or with too many lines, is seen', () => {
    expect(opensWithComment("import x from 'y';\n// late")).toBe(false);
    expect(opensWithComment('#!/usr/bin/env node\n/** The command line. */')).toBe(true);
    expect(lineCount('x\n'.repeat(401))).toBe(401);
  });
});

describe('the reader of source text', () => {
  test('keeps lines, and tells code from comments, strings, templates and regexes', () => {
    const text = `a /* b\n c */ 'd // e' \`f \${g + \`h \${i}\` + '}'} j\` k / l / m; x = /n['"]o/g; // p`;
    const { code, bare } = strip(text);
    expect(code.split('\n').length).toBe(2);
    expect(bare.replace(/\s+/g, '')).toBe('ag++k/l/m;x=g;'.replace('g++', 'g+i+'));
    expect(code).toContain("'d // e'");
    expect(code).not.toMatch(/[bcp]/);
  });
});
