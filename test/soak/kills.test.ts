import { it } from 'vitest';
import { hundredth } from './hundredth.js';
import { kills } from './kills.js';

it(...hundredth(kills));
