/**
 * From a thread to the group that limits its CPU, in any layout: cgroup v1 (alone or joined with cpuacct), v2, both at
 * once, and containers whose mounts show only a part of the hierarchy. Text in, paths out; reading is `files.ts`.
 * Sources: cgroups(7) "/proc files", proc(5) on mountinfo.
 */

/** The directory of a CPU group, and the mount in which it is seen. */
export interface CpuGroup {
  readonly version: 1 | 2;
  readonly path: string;
  /** What is above it cannot be seen or changed from here. */
  readonly mountPoint: string;
}

interface Membership {
  readonly controllers: readonly string[];
  readonly path: string;
}

interface Mount {
  /** The part of the hierarchy that is mounted: not `/` in containers. */
  readonly root: string;
  readonly mountPoint: string;
  readonly writable: boolean;
  readonly fsType: string;
  readonly superOptions: readonly string[];
}

/** `hierarchy:controllers:path`; a path may hold colons. The path is not escaped: `\x2d` in it is systemd's own. */
function memberships(text: string): Membership[] {
  return text.split('\n').flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) return [];
    return [{ controllers: controllers.split(','), path: path.replace(/ \(deleted\)$/, '') }];
  });
}

/** mountinfo writes space, tab, newline and backslash as three octal digits. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

function mounts(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const [, , , root, mountPoint, options] = before.split(' ');
    const [fsType, , superOptions] = after.split(' ');
    if (root === undefined || mountPoint === undefined || fsType === undefined) return [];
    return [
      {
        root: unescaped(root),
        mountPoint: unescaped(mountPoint),
        writable: options?.split(',').includes('rw') ?? false,
        fsType,
        superOptions: superOptions?.split(',') ?? [],
      },
    ];
  });
}

/** The path below the mount's root; undefined when the group is not in what is mounted. */
function below(root: string, path: string): string | undefined {
  if (root === '/') return path === '/' ? '' : path;
  if (path === root) return '';
  return path.startsWith(`${root}/`) ? path.slice(root.length) : undefined;
}

/** From the text of `/proc/<tid>/cgroup` and `/proc/self/mountinfo`; a string says why there is none. */
export function cpuGroup(cgroupText: string, mountinfoText: string): CpuGroup | string {
  const own = memberships(cgroupText);
  // A controller is in one hierarchy only: where v1 has `cpu`, v2 cannot have it.
  const v1 = own.find(({ controllers }) => controllers.includes('cpu'));
  const membership = v1 ?? own.find(({ controllers }) => controllers.length === 1 && controllers[0] === '');
  if (membership === undefined) return 'the kernel has no cpu controller and no cgroup v2';
  const version = v1 === undefined ? 2 : 1;
  const candidates = mounts(mountinfoText).filter(({ fsType, superOptions }) =>
    version === 2 ? fsType === 'cgroup2' : fsType === 'cgroup' && superOptions.includes('cpu'),
  );
  if (candidates.length === 0) return `cgroup v${version} is not mounted`;
  const covering = candidates.flatMap((mount) => {
    const rest = below(mount.root, membership.path);
    return rest === undefined ? [] : [{ mount, rest }];
  });
  const found = covering.findLast(({ mount }) => mount.writable) ?? covering.at(-1);
  if (found === undefined) {
    return `the group ${membership.path} lies outside of what is mounted at ${candidates.at(-1)?.mountPoint}`;
  }
  const { mountPoint } = found.mount;
  return { version, path: `${mountPoint}${found.rest}`, mountPoint };
}
