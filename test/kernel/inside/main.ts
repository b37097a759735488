/** All that is looked at in one boot of the guest kernel; prints one line of JSON, with each part's facts or its error. */
import { inspect } from 'node:util';
import { cells } from './cells.ts';
import { guard } from './guard.ts';
import { smoke } from './smoke.ts';
import { startSpinner, stopSpinner } from './spinner.ts';

const spinner = await startSpinner(2);
const facts: Record<string, unknown> = {};
for (const part of [smoke, cells, guard]) {
  try {
    facts[part.name] = await part(spinner);
  } catch (error) {
    facts[part.name] = { error: inspect(error) };
  }
}
await stopSpinner(spinner);
console.log(JSON.stringify(facts));
// A part that failed may have left something that goes on.
process.exit();
