/** Is the QEMU behind a definition's socket the VM that the definition names? And which uuid has it? */
import type { Answered, Examined } from './examine.ts';
import type { VmEntry } from './run-dir.ts';
import { ensureUuid } from './vm-file.ts';

/** null: nothing speaks against it. A QEMU that was given no name or no uuid says nothing of either. */
export function mismatch({ definition, dir }: VmEntry, qemu: Answered): string | null {
  if (qemu.name !== null && qemu.name !== definition.name) {
    return `the QEMU at ${dir.monitor} says that its name is ${JSON.stringify(qemu.name)}, its definition says ${JSON.stringify(definition.name)}; correct the one that is wrong`;
  }
  if (qemu.uuid !== null && definition.uuid !== null && qemu.uuid !== definition.uuid) {
    return `the QEMU at ${dir.monitor} says that its uuid is ${qemu.uuid}, its definition says ${definition.uuid}; correct the one that is wrong`;
  }
  return null;
}

/** Gives the definition one where it has none. */
export function uuidOfVm({ definition, dir, kept }: VmEntry, examined: Examined): Promise<string> {
  if (definition.uuid !== null) return Promise.resolve(definition.uuid);
  const known = examined.kind === 'answers' ? examined.uuid : null;
  return ensureUuid(dir, kept ? dir.definition : dir.incoming, known);
}
