import { it } from 'vitest';
import { pythonWithTorch } from '../distributed/processes.js';
import { hundredth } from './hundredth.js';
import { rankKills } from './rank-kills.js';

it.skipIf(pythonWithTorch() === undefined)(...hundredth(rankKills));
