import { it } from 'vitest';
import { exits } from './exits.js';
import { hundredth } from './hundredth.js';

it(...hundredth(exits));
