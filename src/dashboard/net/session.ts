/** The token of this tab: in the tab's session storage, and nowhere else. Never in an address, never in a log. */

const KEY = 'hostevac.token';

export function readToken(): string | null {
  return sessionStorage.getItem(KEY);
}

export function keepToken(token: string | null): void {
  if (token === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, token);
}
