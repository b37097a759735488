/**
 * Chromium for the tests, and a watch over every page: what it says on its console, what fails in it, and what it asks of
 * anybody but its server. A test ends with `expectQuiet`.
 */
import { type Browser, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';
import { browserProgram } from '../support/needs.ts';

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** For what comes a moment later: on a busy machine that is long. */
export const SLOW = { timeout: 20_000 };

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: browserProgram(), headless: true, args: ARGUMENTS });
}

export interface Watched {
  readonly page: Page;
  /** What was said on the console as a warning or an error, and what was thrown; what asks elsewhere. */
  readonly faults: string[];
  close(): Promise<void>;
}

export interface PageOptions {
  readonly theme?: 'light' | 'dark';
  readonly phone?: boolean;
  /** Console lines of a server that is killed on purpose. */
  readonly expected?: RegExp;
}

export async function openPage(
  browser: Browser,
  url: string,
  hash = '#/',
  options: PageOptions = {},
): Promise<Watched> {
  const { origin } = new URL(url);
  const context = await browser.newContext({
    viewport: options.phone === true ? { width: 390, height: 844 } : { width: 1280, height: 860 },
    colorScheme: options.theme ?? 'light',
    reducedMotion: 'reduce',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const faults: string[] = [];
  page.on('console', (message) => {
    const known = options.expected?.test(message.text()) === true;
    if (['error', 'warning'].includes(message.type()) && !known) faults.push(`${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`thrown: ${error.message}`));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) faults.push(`asks elsewhere: ${request.url()}`);
  });
  await page.goto(`${url}/${hash}`);
  return { page, faults, close: () => context.close() };
}

export function expectQuiet(watched: Watched): void {
  expect(watched.faults).toEqual([]);
}

/** Tab, until what has the focus is called so. Throws when the focus has gone round without finding it. */
export async function tabTo(
  page: Page,
  role: 'link' | 'button' | 'slider' | 'textbox' | 'combobox' | 'searchbox',
  name: string | RegExp,
): Promise<void> {
  const wanted = page.getByRole(role, { name, ...(typeof name === 'string' ? { exact: true } : {}) }).first();
  await wanted.waitFor();
  for (let presses = 0; presses < 80; presses += 1) {
    await page.keyboard.press('Tab');
    if (await wanted.evaluate((element) => element === element.ownerDocument.activeElement)) return;
  }
  throw new Error(`Tab does not come to the ${role} ${name}`);
}
