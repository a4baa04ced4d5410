import { reportError } from '../errors.js';
import { buildAddon } from './addon.js';
import { buildJavaScript } from './javascript.js';
import { takeBuildLock } from './steps.js';

/** `npm run build`: what a checkout needs to run. Steps whose inputs have not changed are passed over. */
async function build(): Promise<void> {
  await using _ = await takeBuildLock();
  await buildAddon();
  await buildJavaScript();
}

await build().catch(reportError);
