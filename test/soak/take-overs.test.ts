import { it } from 'vitest';
import { hundredth } from './hundredth.js';
import { takeOvers } from './take-overs.js';

it(...hundredth(takeOvers));
