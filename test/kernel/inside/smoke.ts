/** What the guest kernel itself does, without any code of ours. */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { put, ROOT, read } from './groups.ts';
import { type Spinner, sharesOf } from './spinner.ts';

/** One of the two threads is held to a tenth of a core; then everything is as before. */
export async function smoke(spinner: Spinner) {
  const [throttled] = spinner.tids;
  const group = join(ROOT, 'smoke');
  mkdirSync(group);
  put(group, 'cgroup.type', 'threaded');
  put(ROOT, 'cgroup.subtree_control', '+cpu');
  put(group, 'cgroup.threads', throttled ?? 0);
  put(group, 'cpu.max', '10000 100000');
  const facts = {
    controllers: read(ROOT, 'cgroup.controllers').split(' '),
    type: read(group, 'cgroup.type'),
    shares: await sharesOf(spinner, 2_000),
  };
  put(ROOT, 'cgroup.threads', throttled ?? 0);
  rmdirSync(group);
  put(ROOT, 'cgroup.subtree_control', '-cpu');
  return facts;
}
