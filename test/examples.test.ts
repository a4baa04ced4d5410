import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from './temporary-folder.js';

/**
 * Examples in doc comments: the TypeScript blocks after `@example` of every file of src. Each is run as a user's own module
 * would be; a line `expression; // → value` claims that the two are equal (numbers to 1e-9, lists by their entries).
 */
const examples = readdirSync('src', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) => {
    const source = readFileSync(join('src', file), 'utf8');
    const blocks = source.matchAll(/^ *\* @example.*\n *\* ```ts\n((?: *\*.*\n)*?) *\* ```$/gm);
    return [...blocks].map(([, block], i) => ({
      name: `${file.replaceAll(/\W+/g, '-')}-${i + 1}`,
      code: block.replaceAll(/^ *\* ?/gm, ''),
    }));
  });

const check = `
import { strict as assert } from 'node:assert';
function check(found, expected) {
  if (typeof expected === 'number') return assert.ok(Math.abs(found - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), \`\${found} is not \${expected}\`);
  if (!Array.isArray(expected)) return assert.deepEqual(found, expected);
  assert.equal(found.length, expected.length);
  expected.forEach((value, i) => check(found[i], value));
}
`;

describe('examples in doc comments', () => {
  const folder = temporaryFolder();
  let failures: Record<string, string>;

  /** All in one process, which loads the built package once, as it is imported after installation. */
  beforeAll(() => {
    for (const { name, code } of examples) {
      const checked = code.replaceAll(/^(.*); \/\/ → (.*)$/gm, 'check($1, $2);');
      const source = checked.replaceAll("'group-robust-po'", `'${resolve('dist/index.js')}'`);
      writeFileSync(join(folder, `${name}.mts`), check + source);
    }
    const runner = `
      const failures = {};
      for (const name of ${JSON.stringify(examples.map(({ name }) => name))})
        await import(\`./\${name}.mts\`).catch((error) => { failures[name] = String(error); });
      console.log(JSON.stringify(failures));`;
    writeFileSync(join(folder, 'runner.mts'), runner);
    const args = ['--import', 'tsx', join(folder, 'runner.mts')];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    failures = JSON.parse(stdout);
  });

  it('are found, each with a claim', () => {
    expect(examples.length).toBeGreaterThanOrEqual(6);
    for (const { name, code } of examples) expect(code, name).toMatch(/; \/\/ → /);
  });

  it.each(examples)('$name', ({ name }) => expect(failures[name]).toBeUndefined());
});
