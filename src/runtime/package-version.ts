/** The version of this program, from the package.json that it was installed with. */
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { packageFile } from './fleet-source.ts';

let version: string | undefined;

/** `unknown` where the file is not there. */
export function packageVersion(): string {
  version ??= read();
  return version;
}

function read(): string {
  const file = packageFile('package.json');
  if (file === undefined) return 'unknown';
  return z.looseObject({ version: z.string() }).parse(JSON.parse(readFileSync(file, 'utf8'))).version;
}
