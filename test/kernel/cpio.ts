/**
 * A cpio archive in the "newc" format, which the kernel unpacks as its first root file system. Only what an initramfs
 * needs: directories, plain files, character devices. Format: the kernel's Documentation/driver-api/early-userspace/
 * buffer-format.rst.
 */

export type Entry =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string; readonly content: Buffer; readonly executable: boolean }
  | { readonly kind: 'device'; readonly path: string; readonly major: number; readonly minor: number };

/** File types as in stat(2); every directory may be entered and every file read by all, as root runs everything. */
const MODE = { directory: 0o040755, device: 0o020600, program: 0o100755, file: 0o100644 };

/** Names and contents each begin at a multiple of four bytes. */
function padded(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

function header(fields: readonly number[]): Buffer {
  return Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`, 'ascii');
}

function member(entry: Entry, inode: number): Buffer[] {
  const content = entry.kind === 'file' ? entry.content : Buffer.alloc(0);
  const mode = entry.kind === 'file' ? (entry.executable ? MODE.program : MODE.file) : MODE[entry.kind];
  const [major, minor] = entry.kind === 'device' ? [entry.major, entry.minor] : [0, 0];
  const name = Buffer.from(`${entry.path}\0`);
  // inode, mode, uid, gid, links, mtime, size, the file's own device (two), the device it stands for (two), the name's
  // length with its closing zero, and a checksum that this variant does not use.
  const head = header([inode, mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, name.length, 0]);
  return [head, name, padded(head.length + name.length), content, padded(content.length)];
}

/** Parents must come before what is in them: the kernel makes no directory by itself. */
export function cpioArchive(entries: readonly Entry[]): Buffer {
  const members = entries.flatMap((entry, index) => member(entry, index + 1));
  const trailer = member({ kind: 'file', path: 'TRAILER!!!', content: Buffer.alloc(0), executable: false }, 0);
  return Buffer.concat([...members, ...trailer]);
}
