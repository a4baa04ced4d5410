import { expect } from 'vitest';

const voidElements = new Set(['meta']);

/** A page is sound when it fetches nothing, runs nothing, its elements nest, and every figure has a label and a caption. */
export function expectSoundPage(html: string): void {
  // The policy forbids what this test might miss.
  expect(html).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
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
    expect(figure).toMatch(/^<figure><svg role="img" aria-label="[^"]+" .*<figcaption>[^<]+<\/figcaption><\/figure>$/s);
  expect(html.match(/<svg/g) ?? []).toHaveLength(figures.length);
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
