import { hubAnswers } from './hub.js';
import { readers } from './readers.js';
import type { Target } from './target.js';

/** All that is fuzzed, by name. */
export const targets: Record<string, () => Promise<Target>> = { ...readers, 'answers of the hub': hubAnswers };
