/**
 * Chance without a generator: every "random" number of the simulation is a hash of the seed and of what it is for, so
 * that it does not depend on the order in which anybody asks. Pure.
 */

/** FNV-1a with murmur3's finaliser: neighbouring inputs (`pass 1`, `pass 2`) must not give neighbouring numbers. */
function hash32(parts: readonly (string | number)[]): number {
  let hash = 0x811c9dc5;
  for (const part of parts) {
    const text = `${part}\n`;
    for (let index = 0; index < text.length; index += 1) {
      hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
    }
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A number in [0, 1) that always is the same for the same parts. */
export function chance(...parts: readonly (string | number)[]): number {
  return hash32(parts) / 2 ** 32;
}

/** A UUID (version 8: vendor-made) that always is the same for the same parts. */
export function uuidFrom(...parts: readonly (string | number)[]): string {
  const hex = [0, 1, 2, 3]
    .map((word) =>
      hash32([word, ...parts])
        .toString(16)
        .padStart(8, '0'),
    )
    .join('');
  const variant = '89ab'[Number.parseInt(hex.charAt(16), 16) % 4];
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
