import type { Command } from '@commander-js/extra-typings';
import { defineAction } from './command.js';

/** `group-robust build`: the addon, where npm has installed the package; in a checkout `npm run build` does it too. */
export function registerBuild(program: Command): void {
  defineAction(
    program
      .command('build')
      .description('build the C++ addon against the LibTorch of this machine, fetching one if there is none'),
    async () => {
      const { buildAddon } = await import('../install/addon.js');
      const { takeBuildLock } = await import('../install/steps.js');
      await using _ = await takeBuildLock();
      return await buildAddon();
    },
  );
}
