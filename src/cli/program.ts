import { Command } from '@commander-js/extra-typings';
import { packageVersion } from '../package.js';
import { registerBandit } from './bandit.js';
import { registerBench } from './bench.js';
import { registerBuild } from './build.js';
import { registerCompletion } from './completion.js';
import { registerConverge } from './converge.js';
import { registerData } from './data.js';
import { registerDoctor } from './doctor.js';
import { registerEval } from './eval.js';
import { registerLogprobs } from './logprobs.js';
import { registerMerge } from './merge.js';
import { registerReport } from './report.js';
import { registerReproduce } from './reproduce.js';
import { registerSample } from './sample.js';
import { registerSweep } from './sweep.js';
import { registerTrain } from './train.js';

/** `group-robust`: see README.md. Each command is one file of this folder; heavy imports happen inside its action. */
export function groupRobust(): Command {
  const program = new Command('group-robust')
    .description('Group Robust Preference Optimization: GR-DPO and GR-IPO (not Group Relative Policy Optimization)')
    .version(packageVersion())
    .configureHelp({ showGlobalOptions: true });
  registerBuild(program);
  registerDoctor(program);
  registerReproduce(program);
  registerBandit(program);
  registerConverge(program);
  registerData(program);
  registerTrain(program);
  registerSweep(program);
  registerEval(program);
  registerLogprobs(program);
  registerSample(program);
  registerMerge(program);
  registerReport(program);
  registerBench(program);
  registerCompletion(program);
  return program;
}
