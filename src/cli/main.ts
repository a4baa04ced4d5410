#!/usr/bin/env node
import { runProgram } from './command.js';
import { groupRobust } from './program.js';

await runProgram(groupRobust());
