import { expect, it } from 'vitest';
import { neededFolders } from '../../src/install/needed-folders.js';

/** A lock file: own, needed by own, a development tool with what it needs, and another tool. */
const packages = {
  '': { dependencies: { own: '1' } },
  'node_modules/own': { dependencies: { shared: '1' } },
  'node_modules/own/node_modules/shared': {},
  'node_modules/shared': { dev: true },
  'node_modules/tool': {
    dev: true,
    dependencies: { '@scope/part': '1', absent: '1' },
    optionalDependencies: { shared: '2' },
  },
  'node_modules/@scope/part': { dev: true, peerDependencies: { deep: '1' } },
  'node_modules/@scope/part/node_modules/deep': { dev: true, dependencies: { tool: '1' } },
  'node_modules/deep': { dev: true },
  'node_modules/other': { dev: true },
};

it('are those of the package, and of a tool with all that it needs, each where Node finds it', () => {
  const own = ['node_modules/own', 'node_modules/own/node_modules/shared'];
  expect(neededFolders(packages, [])).toEqual(own);
  expect(neededFolders(packages, ['tool'])).toEqual(
    [
      ...own,
      'node_modules/tool',
      'node_modules/@scope/part',
      'node_modules/@scope/part/node_modules/deep',
      'node_modules/shared',
    ].sort(),
  );
});
