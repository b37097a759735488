/**
 * Every page, light and dark and on a phone: nothing that hinders people with disabilities, nothing that runs out of the
 * screen. With HOSTEVAC_WRITE=1 the pictures of docs/images are taken anew on the way.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { AxeBuilder } from '@axe-core/playwright';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { describeWith } from '../support/needs.ts';
import { expectQuiet, launch, openPage, SLOW } from './browser.ts';
import { Place } from './place.ts';

const IMAGES = fileURLToPath(new URL('../../docs/images/', import.meta.url));
const PICTURES_WANTED = process.env['HOSTEVAC_WRITE'] === '1';
const DEMO = new URL('../../docs/examples/demo.yaml', import.meta.url);

describeWith(['browser', 'redis'], 'the pages of the dashboard', () => {
  let browser: Browser;
  let place: Place;
  let operation = '';
  beforeAll(async () => {
    // Slow enough that all pages are seen while it runs.
    const fleet = (await readFile(DEMO, 'utf8'))
      .replace(/speed: \d+/, 'speed: 2')
      // One that must be throttled, and stays where it is.
      .replace('dirtyRate: 300MiB/s', 'dirtyRate: 1.6GiB/s');
    [browser, place] = await Promise.all([launch(), Place.open(fleet)]);
    operation = z.object({ id: z.string() }).parse(await place.json('evacuate', 'node-a')).id;
  });
  afterAll(async () => {
    await browser.close();
    await place.close();
  });

  async function look(name: string, hash: string, ready: (page: Page) => Promise<void>): Promise<void> {
    const watched = await openPage(browser, place.url, hash);
    const { page } = watched;
    await ready(page);
    await picture(page, name);
    const faults = await hindrances(page, 'light');
    await page.emulateMedia({ colorScheme: 'dark' });
    faults.push(...(await hindrances(page, 'dark')));
    await picture(page, `${name}-dark`);
    await page.setViewportSize({ width: 390, height: 844 });
    await picture(page, `${name}-phone`);
    const tooWide = Number(
      await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth'),
    );
    expect([name, faults, tooWide]).toEqual([name, [], 0]);
    expectQuiet(watched);
    await watched.close();
  }

  it('operation and migration, while they run', async () => {
    await look('operation', `#/operations/${operation}`, async (page) => {
      await page.getByText('copying').first().waitFor({ timeout: 30_000 });
      await page.getByText(/until the host is empty/).waitFor({ timeout: 30_000 });
      // A picture with something in it is worth the wait.
      if (!PICTURES_WANTED) return;
      await page.getByRole('table').locator('.tone-good').nth(1).waitFor({ timeout: 60_000 });
      await page.getByText(/until the host is empty/).waitFor({ timeout: 30_000 });
    });
    const { items } = z
      .object({ items: z.array(z.object({ id: z.string(), state: z.string() })) })
      .parse(await (await fetch(`${place.url}/v1/operations/${operation}/migrations`)).json());
    const running = items.find(({ state }) => state === 'precopy')?.id ?? items[0]?.id;
    await look('migration', `#/migrations/${running}`, async (page) => {
      await page.locator('canvas').first().waitFor({ timeout: 20_000 });
      const slider = page.getByRole('slider', { name: /^Decision/ });
      await expect.poll(() => slider.isEnabled(), { timeout: 20_000 }).toBe(true);
      // Every decision with its reason, by the keyboard.
      await slider.focus();
      await page.keyboard.press('Home');
      const first = await page.locator('#reason').textContent();
      expect(first).toMatch(/^\+\S+, pass \d+: \d+%: ./);
      await expect.poll(() => slider.getAttribute('aria-valuetext'), SLOW).toBe(first);
      await page.keyboard.press('ArrowRight');
      await expect.poll(() => page.locator('#reason').textContent()).not.toBe(first);
      await page.keyboard.press('End');
      // A picture shows more when it is nearly over.
      if (PICTURES_WANTED) await page.locator('.page-head').getByText('moved').waitFor({ timeout: 60_000 });
    });
  });

  it('fleet, a host, and its evacuation', async () => {
    await look('fleet', '#/', (page) => page.getByRole('link', { name: /^being emptied/ }).waitFor());
    await look('host', '#/hosts/node-b', (page) =>
      page.getByRole('link', { name: 'postgres-2', exact: true }).waitFor(),
    );
    await look('evacuate', '#/hosts/node-d/evacuate', async (page) => {
      await page.getByRole('table').waitFor();
      // What cannot be moved is said, with its reason.
      await page.getByText(/^vault-1: /).waitFor();
    });
  });

  it('operations, rebalance and audit', async () => {
    await look('operations', '#/operations', (page) =>
      page.getByRole('link', { name: 'Evacuation of node-a' }).waitFor(),
    );
    await look('rebalance', '#/rebalance', async (page) => {
      await page.getByRole('combobox', { name: 'VM', exact: true }).selectOption('grafana-1');
      await page.getByRole('combobox', { name: 'To', exact: true }).selectOption('node-d');
      await page.getByRole('button', { name: 'Add the move' }).click();
      await page.getByRole('table').waitFor();
    });
    await look('audit', '#/audit', (page) => page.getByRole('table').waitFor());
  });

  it('what-if', async () => {
    await look('what-if', '#/vms/postgres-2', async (page) => {
      await page.getByRole('slider', { name: /^Aggression/ }).waitFor({ timeout: 20_000 });
    });
  });

  it('what hinders somebody is found', async () => {
    const { page, close } = await openPage(browser, place.url, '#/nowhere');
    await page.getByRole('heading', { name: 'No such page' }).waitFor();
    await page.evaluate(`document.querySelector('main').insertAdjacentHTML('beforeend', '<img src="/favicon.svg">')`);
    expect(await hindrances(page, 'light')).toEqual([expect.stringContaining('image-alt')]);
    await close();
  });

  it('a page that is not there, a VM and an operation that are not', async () => {
    await look('unknown', '#/nowhere', (page) => page.getByRole('heading', { name: 'No such page' }).waitFor());
    const watched = await openPage(browser, place.url, '#/operations/nothing', { expected: /status of 404/ });
    await watched.page.getByRole('alert').waitFor();
    await watched.page.goto(`${place.url}/#/vms/postgres-9`);
    await watched.page
      .getByRole('alert')
      .getByText(/did you mean/)
      .first()
      .waitFor();
    expectQuiet(watched);
    await watched.close();
  });
});

/** What axe calls serious or critical. */
async function hindrances(page: Page, where: 'light' | 'dark'): Promise<string[]> {
  const axe = new AxeBuilder({ page });
  // The same page: only its colours are others.
  const { violations } = await (where === 'light' ? axe : axe.withRules(['color-contrast'])).analyze();
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) => nodes.map((node) => `${where}: ${id}: ${node.html} ${node.failureSummary ?? ''}`));
}

const PICTURES = /^(fleet|operation|migration|what-if|evacuate|host|rebalance|operations|audit)(-dark|-phone)?$/;
/** The dark and the small ones of those that look most different so. */
const VARIANTS = new Set(['operation-dark', 'what-if-phone', 'fleet-phone']);

async function picture(page: Page, name: string): Promise<void> {
  if (!PICTURES_WANTED || !PICTURES.test(name)) return;
  if (/-(dark|phone)$/.test(name) && !VARIANTS.has(name)) return;
  await mkdir(IMAGES, { recursive: true });
  await page.screenshot({ path: `${IMAGES}${name}.png`, animations: 'disabled' });
}
