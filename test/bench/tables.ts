export function terminalTable(_: unknown): string {
  return '';
}
