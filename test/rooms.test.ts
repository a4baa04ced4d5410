import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';
import { expect, it } from 'vitest';

/** The rooms of src are the folders in it, and each file beside them by itself. They form layers: none needs one above it. */

const roomOf = (path: string) => path.split('/')[1].replace(/\.(ts|js)$/, '');

/** What each room imports of others, by room and then file; types and what is loaded later count too. */
const imports = new Map<string, Map<string, string>>();
for (const name of readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))) {
  const file = join('src', name);
  const found = imports.get(roomOf(file)) ?? new Map<string, string>();
  imports.set(roomOf(file), found);
  for (const { fileName } of ts.preProcessFile(readFileSync(file, 'utf8'), true, true).importedFiles) {
    if (!fileName.startsWith('.')) continue;
    const target = normalize(join(dirname(file), fileName));
    // package.json and the like lie outside.
    if (target.startsWith('src/') && roomOf(target) !== roomOf(file))
      found.set(roomOf(target), `${file} imports ${target}`);
  }
}

/** Rooms from which no circle is reached. */
const straight = new Set<string>();

/** A way from a room back to itself, import by import; undefined where there is none. */
function circle(room: string, way: readonly string[] = []): readonly string[] | undefined {
  if (straight.has(room)) return undefined;
  const start = way.indexOf(room);
  if (start >= 0) return [...way.slice(start), room];
  for (const next of imports.get(room)?.keys() ?? []) {
    const found = circle(next, [...way, room]);
    if (found) return found;
  }
  straight.add(room);
  return undefined;
}

it('no folder of src imports in a circle', () => {
  // One that is loaded later, and one of types.
  expect(imports.get('cli')?.has('reproduce')).toBe(true);
  expect(imports.get('data')?.has('native')).toBe(true);
  const found = [...imports.keys()].map((room) => circle(room)).find((way) => way !== undefined) ?? [];
  const steps = found.slice(1).map((room, i) => imports.get(found[i])?.get(room));
  expect(steps).toEqual([]);
});
