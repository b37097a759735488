/** How much garbage a process that lives for long may gather. */
import { setFlagsFromString } from 'node:v8';

/** Garbage collected when the heap has grown by this much over what lived at the last full collection (%). */
const GROWTH_PERCENT = 50;

/**
 * On a machine with much memory V8 lets the heap grow to several times what lives in it, which looks like a leak and takes memory
 * that guests could have. What that came to: docs/decisions/0043.
 * V8 reads the flag at each collection, so that it may be set while the process runs.
 */
export function keepHeapTight(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWTH_PERCENT}`);
}
