import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Browser, chromium, type Locator, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderPage } from '../../src/report/html.js';
import { readRun } from '../../src/report/runs.js';
import { runsPage } from '../../src/report/runs-page.js';
import { temporaryFolder } from '../temporary-folder.js';
import { finalScores, groupNames, writeFakeRuns } from './fake-runs.js';

/** Needs a Chromium: CHROMIUM, or the one of the system. */
const executablePath = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => path && existsSync(path));

describe.skipIf(!executablePath)('the page in a browser', () => {
  const folders = writeFakeRuns(temporaryFolder());
  const file = join(dirname(folders[0]), 'report.html');
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];

  const open = async (width: number, javaScriptEnabled = true) => {
    const context = await browser.newContext({ viewport: { width, height: 900 }, javaScriptEnabled });
    const opened = await context.newPage();
    opened.on('console', (message) => complaints.push(message.text()));
    opened.on('pageerror', (error) => complaints.push(String(error)));
    opened.on('request', (request) => request.url().startsWith('file:') || complaints.push(request.url()));
    await opened.goto(`file://${file}`);
    return opened;
  };
  beforeAll(async () => {
    writeFileSync(file, await renderPage(runsPage(await Promise.all(folders.map(readRun)))));
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
    page = await open(1280);
  });
  afterAll(() => browser?.close());

  const figure = (caption: string): Locator => page.locator('figure', { hasText: caption });
  const byGroup = () => figure('GR-IPO: validation loss of each group');

  it('says nothing on the console and fetches nothing', () => expect(complaints).toEqual([]));

  it('shows the values under the pointer', async () => {
    const chart = byGroup().locator('.chart');
    await chart.scrollIntoViewIfNeeded();
    const tip = chart.locator('.tip');
    expect(await tip.isVisible()).toBe(false);
    const box = (await chart.boundingBox())!;
    await page.mouse.move(box.x + box.width * 0.98, box.y + box.height / 2);
    const text = await tip.textContent();
    expect(text).toContain('Training pairs seen 480');
    for (const name of groupNames) expect(text).toContain(name);
    // Inside the figure, however long the names are.
    const place = (await tip.boundingBox())!;
    expect(place.x).toBeGreaterThanOrEqual(box.x - 1);
    expect(place.x + place.width).toBeLessThanOrEqual(box.x + box.width + 1);
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    expect(await tip.textContent()).toContain('Training pairs seen 240');
    await page.mouse.move(0, 0);
    expect(await tip.isVisible()).toBe(false);
  });

  it('moves the cursor with the keyboard', async () => {
    const bars = figure('IPO loss (β = 0.1) of each group');
    const chart = bars.locator('.chart');
    const tip = chart.locator('.tip');
    await chart.focus();
    await page.keyboard.press('ArrowDown');
    expect(await tip.textContent()).toContain('Nigeria');
    const mean = [0, 1, 2].reduce((sum, seed) => sum + finalScores('ipo', seed).losses[0] / 3, 0);
    expect(await tip.textContent()).toContain(mean.toFixed(3));
    await page.keyboard.press('End');
    expect(await tip.textContent()).toContain(groupNames[2]);
    await page.keyboard.press('Escape');
    expect(await tip.isVisible()).toBe(false);
  });

  it('shows and hides a group in every figure, by mouse and by keyboard', async () => {
    const curves = (locator: Locator) => locator.locator('path[data-series="0"][stroke-width="2"]').first();
    const alpha = figure('GR-IPO: group weights α');
    const button = byGroup().getByRole('button', { name: 'Nigeria' });
    await button.click();
    expect(await button.getAttribute('aria-pressed')).toBe('false');
    expect(await alpha.getByRole('button', { name: 'Nigeria' }).getAttribute('aria-pressed')).toBe('false');
    for (const shown of [byGroup(), alpha]) expect(await curves(shown).isVisible()).toBe(false);
    await byGroup().locator('.chart').focus();
    await page.keyboard.press('End');
    expect(await byGroup().locator('.tip').textContent()).not.toContain('Nigeria');
    await button.focus();
    await page.keyboard.press('Enter');
    expect(await button.getAttribute('aria-pressed')).toBe('true');
    for (const shown of [byGroup(), alpha]) expect(await curves(shown).isVisible()).toBe(true);
  });

  it.each([1280, 390])(
    'has no sideways scrolling at %d pixels, and targets large enough for fingers',
    async (width) => {
      const narrow = await open(width);
      expect(await narrow.evaluate('document.documentElement.scrollWidth')).toBe(width);
      for (const button of await narrow.locator('.legend button').all())
        expect((await button.boundingBox())!.height).toBeGreaterThanOrEqual(24);
      const folder = process.env.SCREENSHOTS;
      if (folder) await narrow.screenshot({ path: join(folder, `report-${width}.png`), fullPage: true });
      await narrow.context().close();
    },
  );

  it('puts values below a figure that has no room beside the cursor', async () => {
    const narrow = await open(390);
    const chart = narrow.locator('figure', { hasText: 'GR-IPO: validation loss of each group' }).locator('.chart');
    await chart.focus();
    for (let i = 0; i < 4; i++) await narrow.keyboard.press('ArrowRight');
    const [box, tip] = [(await chart.boundingBox())!, (await chart.locator('.tip').boundingBox())!];
    expect(tip.y).toBeGreaterThanOrEqual(box.y + box.height - 1);
    await narrow.context().close();
  });

  it('is readable without its script: figures with legends, nothing that pretends to work', async () => {
    const plain = await open(1280, false);
    expect(await plain.locator('.legend li', { hasText: 'Nigeria' }).count()).toBeGreaterThan(1);
    expect(await plain.locator('button').count()).toBe(0);
    expect(await plain.locator('figure svg').first().isVisible()).toBe(true);
    await plain.context().close();
  });
});
