/** A page of metrics as a test reads it: a look-up by name and labels, and what promtool says of all of it. */
import { execFileSync } from 'node:child_process';

/** The value of one series; undefined where the page does not have it. Labels in any order. */
export function seriesOf(
  page: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const wanted = Object.entries(labels)
    .map(([key, value]) => `${key}="${value}"`)
    .sort();
  for (const line of page.split('\n')) {
    const [, found, inside = '', value] = /^([a-zA-Z_:]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    const has = [...inside.matchAll(/\w+="(?:[^"\\]|\\.)*"/g)].map(([text]) => text).sort();
    if (found === name && has.join() === wanted.join()) return Number(value);
  }
  return undefined;
}

/** Every series of one metric, summed. */
export function sumOf(page: string, name: string): number {
  return page
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

/** What `promtool check metrics` finds; throws with its words where that is anything. */
export function checkWithPromtool(page: string): string {
  try {
    return execFileSync('promtool', ['check', 'metrics'], { input: page, encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`promtool: ${stdout}${stderr}`);
  }
}
