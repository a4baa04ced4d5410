#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { registerBandit } from './bandit.js';
import { registerBench } from './bench.js';
import { reportError } from './command.js';
import { registerConverge } from './converge.js';
import { registerData } from './data.js';
import { registerDoctor } from './doctor.js';
import { registerEval } from './eval.js';
import { registerLogprobs } from './logprobs.js';
import { registerReport } from './report.js';
import { registerReproduce } from './reproduce.js';
import { registerTrain } from './train.js';

/** `group-robust`: see README.md. Each command is one file of this folder; heavy imports happen inside its action. */
const program = new Command('group-robust')
  .description('Group Robust Preference Optimization: GR-DPO and GR-IPO (not Group Relative Policy Optimization)')
  .exitOverride()
  .configureHelp({ showGlobalOptions: true });

registerDoctor(program);
registerReproduce(program);
registerBandit(program);
registerConverge(program);
registerData(program);
registerTrain(program);
registerEval(program);
registerLogprobs(program);
registerReport(program);
registerBench(program);

try {
  await program.parseAsync();
} catch (error) {
  // Commander has printed its own message; a wrong flag is a usage error, --help and --version are not.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else reportError(error);
}
