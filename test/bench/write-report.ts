export function writeReport(_: string, __: unknown): string[] {
  return [];
}
