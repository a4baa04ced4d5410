import { createHash } from 'node:crypto';
import { expect } from 'vitest';

const voidElements = new Set(['meta']);

/**
 * A page is sound when it fetches nothing, runs nothing but its own script, its elements nest, and every figure has a label,
 * a caption and the values of its series.
 */
export function expectSoundPage(whole: string): void {
  const scripts = [...whole.matchAll(/<script( type="application\/json")?>(.*?)<\/script>/gs)];
  const [own, ...others] = scripts.filter(([, data]) => !data).map(([, , text]) => text);
  expect(others).toEqual([]);
  const hash = createHash('sha256').update(own).digest('base64');
  // The policy forbids what this test might miss.
  expect(whole).toContain(`content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'"`);
  const html = whole.replaceAll(/<script( type="application\/json")?>.*?<\/script>/gs, '');
  expect(html).not.toMatch(/https?:|\/\/[a-z]|\bsrc=|@import|url\(|<script|<link|<iframe|\son\w+=/i);
  expect(html).not.toMatch(/\b(NaN|undefined|Infinity|null)\b/);
  const open: string[] = [];
  for (const [, closing, name, , empty] of html.matchAll(/<(\/?)([a-zA-Z][\w]*)((?:"[^"]*"|[^">])*?)(\/?)>/g)) {
    if (closing) expect(open.pop()).toBe(name);
    else if (!empty && !voidElements.has(name)) open.push(name);
  }
  expect(open).toEqual([]);
  const figures = html.match(/<figure>.*?<\/figure>/gs) ?? [];
  for (const figure of figures)
    expect(figure).toMatch(
      /^<figure><div class="chart"><svg role="img" aria-label="[^"]+" .*<figcaption>[^<]+<\/figcaption>\n<\/figure>$/s,
    );
  expect(html.match(/<svg/g) ?? []).toHaveLength(figures.length);
  const values = scripts.filter(([, data]) => data).map(([, , text]) => JSON.parse(text));
  expect(values).toHaveLength(figures.length);
  for (const { names, stops } of values)
    for (const { at, rows } of stops) {
      expect(Number.isFinite(at)).toBe(true);
      for (const [series, text, across] of rows) {
        expect(names[series]).toEqual(expect.any(String));
        expect(text).toMatch(/^[−\d]/);
        expect(Number.isFinite(across)).toBe(true);
      }
    }
}

/** The text of a table by its caption: [header, ...rows], markup removed. */
export function tableOf(html: string, caption: string): string[][] {
  const start = html.indexOf(`<table aria-label="${caption}">`);
  expect(start, `table "${caption}"`).toBeGreaterThan(0);
  const table = html.slice(start, html.indexOf('</table>', start));
  return [...table.matchAll(/<tr>(.*?)<\/tr>/gs)].map(([, row]) =>
    [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/gs)].map(([, cell]) => cell.replace(/<[^>]*>/g, '')),
  );
}
