/** Entry of `npm run bench:convergence`: all contenders on all profiles, then the report. */
import { CONTENDERS } from './contenders/all.ts';
import { helpText, MAX_STALL_MS, optionsOf } from './options.ts';
import { counted, readResults, stillToDo } from './results.ts';
import { carryOut, runMain } from './series.ts';
import { terminalTable } from './tables.ts';
import { writeReport } from './write-report.ts';

async function main(): Promise<number> {
  const options = optionsOf(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(helpText());
    return 0;
  }
  const { results: path, profiles, contenders } = options;
  if (!options.reportOnly) {
    await carryOut({
      results: path,
      terms: {
        bandwidthBytesPerSec: options.bandwidthBytesPerSec,
        maxStallMs: MAX_STALL_MS,
        limitMs: options.limitMs,
      },
      howeverBusy: options.howeverBusy,
      stillToDo: (results) => stillToDo(options, results),
      contenderOf: (order) => {
        const contender = CONTENDERS.find(({ name }) => name === order.contender);
        if (contender === undefined) throw new Error(`there is no contender ${order.contender}`);
        return contender;
      },
    });
  }
  const results = counted(readResults(path)).filter(
    ({ profile, contender }) => profiles.includes(profile) && contenders.includes(contender),
  );
  process.stdout.write(terminalTable(results));
  if (options.reportOnly) for (const file of writeReport(options.report, results)) process.stdout.write(`${file}\n`);
  return results.some(({ memoryFaults }) => memoryFaults.length > 0) ? 1 : 0;
}

await runMain(main);
