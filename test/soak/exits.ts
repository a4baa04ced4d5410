import { spawn } from 'node:child_process';
import { addonCandidates } from '../../src/native/load.js';
import type { NativeGemmaConfig, NativeGemmaOptions } from '../../src/native/types.js';
import { Random } from '../../src/numbers/random.js';
import { plainGemma } from '../native/plain-gemma.js';
import { type Attack, type AttackOptions, doCases, watch } from './attack.js';

/** A process ends at a random moment while three models compute, in one of the ways in which Node ends: no signal, and no word. */
export const exits: Attack = { name: 'exits', unit: 'exits', full: 2000, run };

const config: NativeGemmaConfig = { ...plainGemma, layers: 2 };
const kinds: NativeGemmaOptions = { device: 'cpu', dtype: 'float32', baseDtype: 'float32', recompute: false };

const ways = ['process.exit(7)', 'process.reallyExit(7)', 'process.exitCode = 7; throw undefined'];

/** Ends with 7, after `delay` ms of forward and backward passes. */
const program = (way: string, delay: number) => `
  process.on('uncaughtException', () => process.exit(7));
  const { Gemma, setThreads } = require(${JSON.stringify(addonCandidates()[0])});
  setThreads(2);
  const batch = { tokens: new Int32Array(1200).fill(5), promptLengths: Int32Array.of(200), responseCounts: Int32Array.of(10),
    responseLengths: new Int32Array(10).fill(100) };
  const models = [0, 1, 2].map(() => new Gemma(${JSON.stringify(config)}, ${JSON.stringify(kinds)}));
  Promise.all(models.map(async (model) => {
    await model.randomize(1, 0.1);
    await model.addAdapter([0, 1].map((layer) => ({ layer, target: 'q_proj', rank: 2, scale: 1 })), 0, 1, { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0 });
    for (let i = 0; i < 500; i++) {
      model.forward(batch, 'policy', true).catch(() => {});
      model.backward(new Float64Array(10), new Int32Array(1)).catch(() => {});
    }
  })).then(() => setTimeout(() => { ${way} }, ${delay}));
`;

async function run(count: number, options: AttackOptions): Promise<string> {
  await doCases(exits, count, options, async (index) => {
    const random = Random.stream(options.seed, 'exit', index);
    const way = ways[index % ways.length];
    const { code, signal, output } = await watch(spawn(process.execPath, ['-e', program(way, random.integer(100))]))
      .ended;
    if (code !== 7 || output !== '') throw new Error(`${way} ends with ${signal ?? code}: ${output}`);
    return 1;
  });
  return '';
}
