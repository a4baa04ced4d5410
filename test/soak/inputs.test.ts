import { it } from 'vitest';
import { hundredth } from './hundredth.js';
import { inputs } from './inputs.js';

for (const attack of inputs) it(...hundredth(attack));
