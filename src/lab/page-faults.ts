/**
 * What a page fault costs here. Real guests have long been up, and their memory is there; one that was just started takes a
 * page fault for each page that is looked at first, and so does its destination for each that arrives. That is a quarter of
 * a microsecond on most machines and was 12 on one (a virtual machine without nested paging): a look of 50 ms took 400, and
 * an idle guest stood still for 500 ms, while its destination was still taking in zero pages.
 */
const LOOKED_AT_BYTES = 64 * 2 ** 20;
const PART_BYTES = 8 * 2 ** 20;
const PAGE_BYTES = 4_096;
const DEAR_US = 3;

/** Whether guests had better be given all of their memory when QEMU starts, at the source and the destination alike. */
export function faultsAreDear(): boolean {
  return pageFaultUs() > DEAR_US;
}

/** The middle of a few parts: others may want this core meanwhile, and a part may be a huge page. */
function pageFaultUs(): number {
  // Too large for the allocator to keep: it comes fresh from the kernel.
  const fresh = Buffer.allocUnsafeSlow(LOOKED_AT_BYTES);
  const parts: number[] = [];
  for (let from = 0; from < LOOKED_AT_BYTES; from += PART_BYTES) {
    const since = performance.now();
    for (let at = from; at < from + PART_BYTES; at += PAGE_BYTES) fresh[at] = 1;
    parts.push(((performance.now() - since) * 1_000) / (PART_BYTES / PAGE_BYTES));
  }
  parts.sort((one, other) => one - other);
  return parts[Math.floor(parts.length / 2)] ?? 0;
}
