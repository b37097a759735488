/**
 * What is run inside the guest kernel: the programs in inside/, compiled together with what they use of src/, and the
 * packages those import. Compiled here, privately, so that no build has to be there.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { tree } from './boot.ts';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const PLACE = '/hostevac';
/** `from 'zod'`, `import 'x'`, `import('@scope/x/part')`: the name before any path within the package. */
const IMPORT = /(?:from|import)\s*\(?\s*['"]((?:@[^/'"]+\/)?[^./'"][^/'"]*)/g;

const manifestSchema = z.object({ dependencies: z.record(z.string(), z.string()).default({}) });

/** Where a program of inside/ is found in the guest. */
export function inside(name: string): string {
  return `${PLACE}/test/kernel/inside/${name}.js`;
}

export function programFiles(): Map<string, Buffer> {
  const out = mkdtempSync(join(tmpdir(), 'hostevac-inside-'));
  try {
    const compiler = join(REPOSITORY, 'node_modules/typescript/bin/tsc');
    const project = join(REPOSITORY, 'test/kernel/inside');
    execFileSync(process.execPath, [compiler, '-p', project, '--outDir', out], { stdio: 'inherit' });
    const compiled = tree(out, PLACE);
    return new Map([
      ...compiled,
      ...packages(compiled),
      [`${PLACE}/package.json`, Buffer.from('{ "type": "module" }')],
    ]);
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** The packages that compiled files import, and what these depend on, as they are installed here. */
function packages(compiled: ReadonlyMap<string, Buffer>): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  const wanted = new Set<string>();
  for (const content of compiled.values()) {
    for (const [, name] of content.toString().matchAll(IMPORT)) {
      if (name !== undefined && !isBuiltin(name)) wanted.add(name);
    }
  }
  // A set visits what is added while it is walked.
  for (const name of wanted) {
    const folder = join(REPOSITORY, 'node_modules', name);
    const manifest: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    for (const dependency of Object.keys(manifestSchema.parse(manifest).dependencies)) wanted.add(dependency);
    const code = (path: string) => /\.(c?js|mjs|json)$/.test(path);
    for (const [path, content] of tree(folder, `${PLACE}/node_modules/${name}`, code)) files.set(path, content);
  }
  return files;
}
